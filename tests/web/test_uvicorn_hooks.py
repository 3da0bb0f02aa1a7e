"""Undocumented parts of uvicorn that the service overrides or reads.

A release of uvicorn that changes one of them must fail here, not in production.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from asgilook.web.framing import FramedProtocol
from asgilook.web.uvicorn_protocol import LimitedProtocol

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]

METHODS = [
    name
    for name, value in (vars(FramedProtocol) | vars(LimitedProtocol)).items()
    if inspect.isfunction(value) and not name.startswith('_')
]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


def methods(cls: type) -> dict[str, Any]:
    return dict(inspect.getmembers(cls, inspect.isfunction))


@pytest.mark.parametrize('name', METHODS)
async def test_overridden_method(name: str) -> None:
    ours, theirs = methods(LimitedProtocol)[name], methods(HttpToolsProtocol)[name]
    assert [*inspect.signature(ours).parameters] == [
        *inspect.signature(theirs).parameters
    ]


async def test_attributes_of_a_connection() -> None:
    protocol = HttpToolsProtocol(uvicorn.Config(app), ServerState(), {})
    assert set(vars(protocol)) >= {
        'app',
        'connections',
        'cycle',
        'expect_100_continue',
        'headers',
        'logger',
        'loop',
        'parser',
        'pipeline',
        'server_state',
        'timeout_keep_alive_task',
        'transport',
    }
    protocol.on_message_begin()
    assert protocol.url == b''


async def test_attributes_of_a_request() -> None:
    source = inspect.getsource(httptools_impl.RequestResponseCycle.__init__)
    assert set(re.findall(r'self\.(\w+)(?:: [^=]+)? = ', source)) >= {
        'disconnected',
        'keep_alive',
        'message_event',
        'more_body',
        'response_complete',
        'response_started',
    }


async def test_state_is_shared_by_the_connections_of_a_server() -> None:
    config, state = uvicorn.Config(app), ServerState()
    one, two = (LimitedProtocol(config, state, {}) for _ in range(2))
    other = LimitedProtocol(config, ServerState(), {})
    assert one._shared is two._shared
    assert one._shared is not other._shared


async def test_two_writes_are_joined() -> None:
    """A response of one chunk is exactly two writes of uvicorn."""
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False
    protocol = HttpToolsProtocol(uvicorn.Config(responder), ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await asyncio.gather(*protocol.tasks)
    writes = [call.args[0][-3:] for call in transport.write.call_args_list]
    assert writes == [b'\n\r\n', b'abc']
    protocol.connection_lost(None)


async def responder(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b'content-length', b'3')]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b'abc'})
