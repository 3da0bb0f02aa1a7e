"""Clients that do not read what they have asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from asgilook.web import uvicorn_protocol
from asgilook.web.uvicorn_protocol import LimitedProtocol

REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'


class Endless:
    """An app that sends for as long as the connection is there."""

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


@contextlib.asynccontextmanager
async def serving(app: Endless) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    options: Any = {'port': 0, 'http': LimitedProtocol, 'lifespan': 'off'}
    running = uvicorn.Server(uvicorn.Config(app, log_config=None, **options))
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        yield running, running.servers[0].sockets[0].getsockname()[1]
        running.should_exit = True
        await task


def test_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'STALL_SECONDS', 0.3)

    async def main() -> None:
        app = Endless()
        async with serving(app) as (_, port):
            reader, writer = await asyncio.open_connection('127.0.0.1', port)
            writer.write(REQUEST)
            for _ in range(5):  # each time before it is too late
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(0.1)
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                await reader.readexactly(20_000_000)
            assert not app.ended.is_set()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await app.ended.wait()
            writer.transport.abort()

    asyncio.run(main())


def test_server_ends_without_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'LAST_SECONDS', 0.2)

    async def main() -> None:
        app = Endless()
        async with serving(app) as (running, port):
            reader, writer = await asyncio.open_connection('127.0.0.1', port)
            writer.write(REQUEST)
            await reader.readexactly(65536)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.5)
            assert not app.ended.is_set()
            _, idle = await asyncio.open_connection('127.0.0.1', port)
            running.should_exit = True
        idle.close()
        assert app.ended.is_set()
        writer.transport.abort()

    asyncio.run(main())
    assert 'Exception' not in caplog.text
