"""Offers of an upgrade to plain uvicorn, with its own protocol classes."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from falcon.testing import TestClient
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asgilook.app import create_app
from asgilook.config import Config

from ..servers import HOST, serving

INNER = b'GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n'


@pytest.mark.parametrize('protocol', [H11Protocol, HttpToolsProtocol])
@pytest.mark.parametrize(
    'head',
    [
        b'POST /images HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n',
        b'CONNECT /images HTTP/1.1\r\n',
    ],
)
async def test_body_is_not_answered(config: Config, protocol: Any, head: bytes) -> None:
    head += b'Host: localhost\r\nContent-Length: %d\r\n\r\n' % len(INNER)
    config.redis_host = None
    async with serving(create_app(config), http=protocol, lifespan='on') as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head)
        await asyncio.sleep(0.05)
        writer.write(INNER)
        received = await reader.read()
        writer.close()
    assert received.count(b'HTTP/1.1 ') == 1
    assert b'\r\nconnection: close\r\n' in received
    assert received.split()[1] in (b'400', b'405', b'415')


@pytest.mark.parametrize(
    'headers',
    [
        {},
        {'Upgrade': 'h2c'},
        {'Upgrade': 'h2c', 'Connection': 'keep-alive'},
        {'Connection': 'Upgrade'},
    ],
)
async def test_other_connections_stay_open(
    client: TestClient, headers: dict[str, str]
) -> None:
    get = functools.partial(client.simulate_get, headers=headers)
    result = await asyncio.to_thread(get, '/images')
    assert 'connection' not in result.headers
