from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from asgilook.web import uvicorn_protocol

from ..servers import HOST, serving

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]

HEAD = b'GET / HTTP/1.1\r\nHost: localhost\r\n'

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], AbstractAsyncContextManager[Streams]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond at once, in as many chunks as the path says, without reading a body."""
    chunks = int(scope['path'][1:] or '1')
    headers = [(b'content-length', b'%d' % (chunks * 3))]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    for left in reversed(range(chunks)):
        if chunks > 1:
            await asyncio.sleep(0.01)
        await send(
            {'type': 'http.response.body', 'body': b'abc', 'more_body': left > 0}
        )


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Yield a function that opens a connection to a server of `app`."""
    async with serving(app) as (_, port):

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[Streams]:
            reader, writer = await asyncio.open_connection(HOST, port)
            yield reader, writer
            writer.close()

        yield connect


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'HEADER_TIMEOUT', 0.2)
    monkeypatch.setattr(uvicorn_protocol, 'LINGER_TIMEOUT', 0.2)


async def response(reader: asyncio.StreamReader) -> bytes:
    """Read one response; return its body."""
    head = await reader.readuntil(b'\r\n\r\n')
    length = next(
        int(line.split(b':')[1])
        for line in head.splitlines()
        if line.lower().startswith(b'content-length')
    )
    return await reader.readexactly(length)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a request; return the body of the response."""
    writer.write(HEAD + b'\r\n')
    return await response(reader)


async def test_malformed_request_gets_problem_json(connect: Connect) -> None:
    async with connect() as (reader, writer):
        writer.write(b'FOO!BAR / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        head, _, body = (await reader.read()).partition(b'\r\n\r\n')
        assert head.startswith(b'HTTP/1.1 400 Bad Request\r\n')
        assert b'\r\ndate: ' in head
        assert b'content-type: application/problem+json' in head
        assert b'content-length: %d\r\n' % len(body) in head
        assert json.loads(body)['status'] == 400


@pytest.mark.parametrize('path', [b'/', b'/1', b'/5'])
async def test_requests_on_one_connection(connect: Connect, path: bytes) -> None:
    async with connect() as (reader, writer):
        for _ in range(3):
            writer.write(b'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' % path)
            assert await response(reader) == b'abc' * int(path[1:] or b'1')


async def test_pipelined_requests(connect: Connect) -> None:
    async with connect() as (reader, writer):
        writer.write((HEAD + b'\r\n') * 3)
        assert [await response(reader) for _ in range(3)] == [b'abc'] * 3


@pytest.mark.parametrize('sent', [b'', b'G', HEAD])
@pytest.mark.usefixtures('short_timeouts')
async def test_unfinished_head_ends_the_connection(
    connect: Connect, sent: bytes
) -> None:
    async with connect() as (reader, writer):
        writer.write(sent)
        assert await reader.read() == b''


@pytest.mark.usefixtures('short_timeouts')
async def test_unfinished_second_head_ends_the_connection(connect: Connect) -> None:
    async with connect() as (reader, writer):
        assert await ask(reader, writer) == b'abc'
        writer.write(HEAD)
        assert await reader.read() == b''


@pytest.mark.usefixtures('short_timeouts')
async def test_slow_head_ends_the_connection(connect: Connect) -> None:
    async with connect() as (reader, writer):
        writer.write(HEAD)
        end = asyncio.create_task(reader.read())
        while not end.done():
            writer.write(b'X: y\r\n')
            await asyncio.wait([end], timeout=0.05)
        with contextlib.suppress(ConnectionError):
            assert await end == b''


async def test_endless_head_ends_the_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'MAX_HEADER_SIZE', 1000)
    async with connect() as (reader, writer):
        writer.write(HEAD + b'X: %s\r\n\r\n' % (b'x' * 100))
        assert await response(reader) == b'abc'
        writer.write(HEAD + b'X: ' + b'x' * 2000)
        assert await reader.read() == b''


@pytest.mark.usefixtures('short_timeouts')
async def test_body_after_its_response_is_dropped(connect: Connect) -> None:
    post = b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n'
    async with connect() as (reader, writer):
        writer.write(post)
        assert await response(reader) == b'abc'
        writer.write(bytes(100000))
        assert await ask(reader, writer) == b'abc'
        writer.write(post)
        assert await response(reader) == b'abc'
        assert await reader.read() == b''


async def test_longest_idle_connection_is_closed_for_a_new_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'max_connections', lambda: 2)
    async with connect() as first, connect() as second:
        assert await ask(*first) == b'abc'
        assert await ask(*second) == b'abc'
        assert await ask(*first) == b'abc'
        async with connect() as third:
            assert await ask(*third) == b'abc'
            assert await second[0].read() == b''
            assert await ask(*first) == b'abc'


async def test_busy_connection_is_not_closed_for_a_new_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'max_connections', lambda: 1)
    async with connect() as (reader, writer):
        writer.write(b'GET /100 HTTP/1.1\r\nHost: localhost\r\n\r\n')
        await reader.readuntil(b'\r\n\r\n')
        async with connect() as second:
            assert await second[0].read() == b''
        assert await reader.readexactly(3) == b'abc'
        writer.transport.abort()
