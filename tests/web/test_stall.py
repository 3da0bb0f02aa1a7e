"""Clients that do not read their responses."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from asgilook.web import uvicorn_protocol
from asgilook.web.uvicorn_protocol import (
    MIN_READ_RATE,
    STALL_TIMEOUT,
    LimitedProtocol,
)

from ..conftest import until
from ..servers import HOST, serving
from ..virtual_time import VIRTUAL_TIME

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
    monkeypatch.setattr(uvicorn_protocol, 'STALL_TIMEOUT', 0.05)
    app = Endless()
    async with serving(app) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(REQUEST)
        await reader.readexactly(65536)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await app.ended.wait()
        writer.transport.abort()


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_client_that_reads_lifts_the_limit() -> None:
    protocol = LimitedProtocol(uvicorn.Config(Endless()), ServerState(), {})
    transport = Mock(spec=asyncio.Transport, is_closing=lambda: True)
    transport.get_write_buffer_size.return_value = 10**6
    transport.get_extra_info.return_value = None
    protocol.connection_made(transport)
    for _ in range(3):
        protocol.pause_writing()
        await asyncio.sleep(STALL_TIMEOUT - 1)
        protocol.resume_writing()
    await asyncio.sleep(STALL_TIMEOUT * 2)
    protocol.pause_writing()
    await asyncio.sleep(STALL_TIMEOUT - 1)
    assert not transport.abort.called
    await asyncio.sleep(2)
    assert transport.abort.called
    protocol.connection_lost(None)


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
@pytest.mark.parametrize(
    ('rate', 'reads'), [(MIN_READ_RATE, True), (MIN_READ_RATE - 1, False)]
)
async def test_client_that_reads_at_the_minimum_rate(rate: int, reads: bool) -> None:
    protocol = LimitedProtocol(uvicorn.Config(Endless()), ServerState(), {})
    transport = Mock(spec=asyncio.Transport, is_closing=lambda: True)
    transport.get_write_buffer_size = lambda: round(10**9 - rate * protocol.loop.time())
    transport.get_extra_info.return_value = None
    protocol.connection_made(transport)
    protocol.pause_writing()
    await asyncio.sleep(STALL_TIMEOUT * 10 - 1)
    assert transport.abort.called != reads
    protocol.connection_lost(None)


async def test_client_that_reads_slowly_gets_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A block of the response takes longer to read than the limit."""
    monkeypatch.setattr(uvicorn_protocol, 'STALL_TIMEOUT', 0.1)
    size = 30 * 2**20

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b'content-length', b'%d' % size)]
        await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
        await send({'type': 'http.response.body', 'body': bytes(size)})

    async with serving(app) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(REQUEST)
        await reader.readuntil(b'\r\n\r\n')
        left = size
        while left:
            data = await reader.read(2**19)
            assert data
            left -= len(data)
            await asyncio.sleep(0.005)
        writer.close()


async def test_shutdown_does_not_wait_for_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'SHUTDOWN_STALL_TIMEOUT', 0.05)
    monkeypatch.setattr(uvicorn_protocol, 'DRAIN_TIMEOUT', 0.05)
    app = Endless()
    async with serving(app) as (server, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(REQUEST)
        await reader.readexactly(65536)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = server.server_state.connections
        flow = cast(LimitedProtocol, connection).flow
        await until(lambda: flow.is_write_paused)
        assert not app.ended.is_set()
        _, idle = await asyncio.open_connection(HOST, port)
        server.should_exit = True
    idle.close()
    assert app.ended.is_set()
    writer.transport.abort()
    assert 'Exception' not in caplog.text
