"""Clients that do not read their responses."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from asgilook.web import uvicorn_protocol
from asgilook.web.uvicorn_protocol import LimitedProtocol

from ..servers import HOST, serving

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]

REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'


class Endless:
    """An app that sends for as long as the connection is open."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        watcher = asyncio.create_task(self._watch(receive))
        while not watcher.done():
            block = {'body': bytes(65536), 'more_body': True}
            await send({'type': 'http.response.body', **block})
            await asyncio.sleep(0)
        self.ended.set()

    async def _watch(self, receive: Any) -> None:
        while (await receive())['type'] != 'http.disconnect':
            pass


async def test_client_that_does_not_read_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'STALL_TIMEOUT', 0.3)
    app = Endless()
    async with serving(app) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(REQUEST)
        for _ in range(5):  # each pause is shorter than the limit
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            await reader.readexactly(20_000_000)
        assert not app.ended.is_set()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await app.ended.wait()
        writer.transport.abort()


async def test_client_that_reads_lifts_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'STALL_TIMEOUT', 0.01)
    protocol = LimitedProtocol(uvicorn.Config(Endless()), ServerState(), {})
    transport = Mock(spec=asyncio.Transport)
    protocol.connection_made(transport)
    protocol.pause_writing()
    protocol.resume_writing()
    await asyncio.sleep(0.05)
    assert not transport.abort.called
    protocol.pause_writing()
    await asyncio.sleep(0.05)
    assert transport.abort.called
    protocol.connection_lost(None)


async def test_shutdown_does_not_wait_for_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'SHUTDOWN_STALL_TIMEOUT', 0.2)
    app = Endless()
    async with serving(app) as (server, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(REQUEST)
        await reader.readexactly(65536)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        assert not app.ended.is_set()
        _, idle = await asyncio.open_connection(HOST, port)
        server.should_exit = True
    idle.close()
    assert app.ended.is_set()
    writer.transport.abort()
    assert 'Exception' not in caplog.text
