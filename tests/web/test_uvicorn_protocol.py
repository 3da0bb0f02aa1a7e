from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.web import uvicorn_protocol
from asgilook.web.framing import HEAD as HEAD_BEGUN
from asgilook.web.uvicorn_protocol import LimitedProtocol

from ..conftest import until
from ..servers import HOST, serving

HEAD = b'GET / HTTP/1.1\r\nHost: localhost\r\n'
CHUNKED = HEAD.replace(b'GET', b'POST') + b'Transfer-Encoding: chunked\r\n\r\n'

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], AbstractAsyncContextManager[Streams]]


class App:
    """Responds in as many chunks as the path says, without reading a body.

    `/late` waits for `released` before its head, and `/held` before its last chunk.
    """

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        path = scope['path'][1:]
        if path == 'late':
            await self.released.wait()
        chunks = int(path) if path.isdigit() else {'held': 2}.get(path, 1)
        headers = [(b'content-length', b'%d' % (chunks * 3))]
        await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
        for left in reversed(range(chunks)):
            if path == 'held' and not left:
                await self.released.wait()
            if chunks > 1:
                await asyncio.sleep(0)
            await send(
                {'type': 'http.response.body', 'body': b'abc', 'more_body': left > 0}
            )


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
def keep_alive() -> float:
    """Return the server's limit on idle connections, which few tests reach."""
    return 60


@pytest.fixture
async def server(
    app: App, keep_alive: float
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """Yield a server of `app`, and its port."""
    async with serving(app, timeout_keep_alive=keep_alive) as server:
        yield server


@pytest.fixture
def connect(server: tuple[uvicorn.Server, int]) -> Connect:
    """Return a function that opens a connection to the server."""

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Streams]:
        reader, writer = await asyncio.open_connection(HOST, server[1])
        yield reader, writer
        writer.close()

    return connect


@pytest.fixture
def shorten(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a timeout short, once a test waits for it."""
    return lambda name: monkeypatch.setattr(uvicorn_protocol, name, 0.05)


async def stop_accepting(server: uvicorn.Server) -> None:
    """Begin the shutdown of a server, which its connections learn at the same time."""
    server.should_exit = True
    await until(lambda: not server.servers[0].is_serving())


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


@pytest.mark.parametrize(
    ('sent', 'line', 'labels'),
    [
        (b'FOO!BAR / HTTP/1.1\r\n\r\n', '"- -" 400', 'method="other"'),
        (b'GET /x?y HTTP/1.1\r\n\r\n', '"GET /x?y" 400', 'method="GET"'),
        (b'HEAD / HTTP/1.1\r\n\r\n', '"HEAD /" 400', 'method="HEAD"'),
    ],
)
async def test_rejected_request_is_logged_and_counted(
    config: Config,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    line: str,
    labels: str,
) -> None:
    caplog.set_level(logging.INFO, 'asgilook.access')
    async with serving(create_app(config), lifespan='on') as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b'\r\n\r\n')
        assert head.startswith(b'HTTP/1.1 400 ')
        writer.close()
        (message,) = [x.message for x in caplog.records if x.name == 'asgilook.access']
        assert message.startswith(f'{HOST} {line} {len(body)} bytes ')
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n')
        count = (
            f'asgilook_http_requests_total{{{labels},route="other",status="400"}} 1.0'
        )
        assert count in (await response(reader)).decode()
        writer.close()


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
async def test_unfinished_head_ends_the_connection(
    connect: Connect, shorten: Callable[[str], None], sent: bytes
) -> None:
    shorten('HEADER_TIMEOUT')
    async with connect() as (reader, writer):
        writer.write(sent)
        assert await reader.read() == b''


async def test_unfinished_second_head_ends_the_connection(
    connect: Connect, shorten: Callable[[str], None]
) -> None:
    async with connect() as (reader, writer):
        assert await ask(reader, writer) == b'abc'
        shorten('HEADER_TIMEOUT')
        writer.write(HEAD)
        assert await reader.read() == b''


async def test_slow_head_ends_the_connection(
    connect: Connect, shorten: Callable[[str], None]
) -> None:
    shorten('HEADER_TIMEOUT')
    async with connect() as (reader, writer):
        writer.write(HEAD)
        end = asyncio.create_task(reader.read())
        while not end.done():
            writer.write(b'X: y\r\n')
            await asyncio.wait([end], timeout=0.01)
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


async def test_body_after_its_response_is_dropped(
    connect: Connect, shorten: Callable[[str], None]
) -> None:
    post = b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n'
    async with connect() as (reader, writer):
        writer.write(post)
        assert await response(reader) == b'abc'
        writer.write(bytes(100000))
        assert await ask(reader, writer) == b'abc'
        shorten('LINGER_TIMEOUT')
        writer.write(post)
        assert await response(reader) == b'abc'
        assert await reader.read() == b''


async def test_client_that_sends_can_read_the_last_response(
    connect: Connect, app: App, shorten: Callable[[str], None]
) -> None:
    """What it sends after the response would else make the system send a reset."""
    head = HEAD + b'Connection: close\r\nContent-Length: 10000000\r\n\r\n'
    async with connect() as (reader, writer):
        writer.write(head + bytes(10_000_000))
        assert await response(reader) == b'abc'
        assert await reader.read() == b''
        await writer.drain()
        writer.write(HEAD + b'\r\n')  # not a request anymore
        writer.write_eof()
    async with connect() as (reader, writer):
        shorten('LINGER_TIMEOUT')
        writer.write(head)
        assert await reader.read() != b''
        with pytest.raises(ConnectionError):
            await send_for_ever(writer)
    assert app.calls == 2


async def send_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b'x')
        await writer.drain()
        await asyncio.sleep(0.001)


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
    connect: Connect, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'max_connections', lambda: 1)
    async with connect() as (reader, writer):
        writer.write(b'GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n')
        await reader.readuntil(b'\r\n\r\n')
        async with connect() as second:
            assert await second[0].read() == b''
        app.released.set()
        assert await reader.readexactly(6) == b'abcabc'


@pytest.mark.parametrize('end', [b'0\r\nX: ', b'1;x=', b'1\r\n', b'1\r\nx\r\n0\r\nX: '])
async def test_endless_trailer_or_chunk_extension_ends_the_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'MAX_HEADER_SIZE', 1000)
    async with connect() as (reader, writer):
        writer.write(CHUNKED + end)
        assert await response(reader) == b'abc'
        writer.write(b'x' * 2000)
        with contextlib.suppress(ConnectionError):
            rest = await reader.read()
            assert not rest or rest.startswith(b'HTTP/1.1 400 ')


async def until_head_has_begun(server: uvicorn.Server) -> None:
    """Wait until the server has received a part of a request's head."""
    connections: Any = server.server_state.connections
    await until(lambda: any(each.reading is HEAD_BEGUN for each in connections))


async def test_content_does_not_count_as_header(
    connect: Connect,
    server: tuple[uvicorn.Server, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long body or pipeline before the beginning of a head does not count."""
    monkeypatch.setattr(uvicorn_protocol, 'MAX_HEADER_SIZE', 1000)
    body = b'3e8\r\n' + bytes(1000) + b'\r\n0\r\n\r\n'
    async with connect() as (reader, writer):
        for before, count in (CHUNKED + body, 1), ((HEAD + b'\r\n') * 50, 50):
            writer.write(before + HEAD)
            assert [await response(reader) for _ in range(count)] == [b'abc'] * count
            await until_head_has_begun(server[0])
            writer.write(b'\r\n')
            assert await response(reader) == b'abc'


@pytest.mark.parametrize('keep_alive', [0.05])
async def test_first_response_sets_no_limit_on_the_second_request(
    connect: Connect, app: App, shorten: Callable[[str], None]
) -> None:
    async with connect() as (reader, writer):
        second = HEAD.replace(b'GET /', b'POST /held')
        writer.write(HEAD + b'\r\n' + second + b'Content-Length: 3\r\n\r\n')
        assert await response(reader) == b'abc'
        shorten('HEADER_TIMEOUT')
        await asyncio.sleep(0.1)
        app.released.set()
        assert await response(reader) == b'abcabc'
        writer.write(b'end' + HEAD + b'\r\n')
        assert await response(reader) == b'abc'


@pytest.mark.parametrize('keep_alive', [0.2])
async def test_empty_lines_do_not_extend_the_keep_alive_limit(
    connect: Connect,
) -> None:
    async with connect() as (reader, writer):
        assert await ask(reader, writer) == b'abc'
        end = asyncio.create_task(reader.read())
        while not end.done():
            writer.write(b'\r\n')
            await asyncio.wait([end], timeout=0.01)
        with contextlib.suppress(ConnectionError):
            assert await end == b''


@pytest.mark.parametrize('keep_alive', [0.05])
async def test_dropped_body_does_not_lift_the_keep_alive_limit(
    connect: Connect,
) -> None:
    async with connect() as (reader, writer):
        writer.write(HEAD.replace(b'GET', b'POST') + b'Content-Length: 3\r\n\r\n')
        assert await response(reader) == b'abc'
        writer.write(b'end')
        assert await reader.read() == b''


async def test_lost_connection_leaves_no_timer() -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def call_at(*args: Any) -> asyncio.TimerHandle:
        timers.append(loop.call_at(*args))
        return timers[-1]

    spied = Mock(wraps=loop, call_at=call_at)
    protocol = LimitedProtocol(uvicorn.Config(App()), ServerState(), {}, spied)
    transport = Mock(spec=asyncio.Transport, is_closing=lambda: False)
    transport.get_write_buffer_size.return_value = 10**6
    transport.get_extra_info.return_value = None
    protocol.connection_made(transport)
    protocol.data_received(HEAD + b'\r\n')
    assert not protocol.unanswered
    protocol.pause_writing()
    protocol.connection_lost(ConnectionResetError())
    assert timers
    assert all(timer.cancelled() for timer in timers)


async def test_limits_are_shared_by_the_connections_of_a_server() -> None:
    """A connection that begins after a shutdown of its server has little time."""
    config, state = uvicorn.Config(App()), ServerState()
    closed = []
    for server_state in state, state, ServerState():
        transport = Mock(spec=asyncio.Transport, is_closing=lambda: False)
        protocol = LimitedProtocol(config, server_state, {})
        protocol.connection_made(transport)
        protocol.data_received(HEAD + b'\r\n')
        closed.append(transport.close.called)
        protocol.shutdown()
        protocol.connection_lost(None)
    assert closed == [False, True, False]


class TestShutdown:
    async def test_idle_connection_gets_one_more_response(
        self,
        server: tuple[uvicorn.Server, int],
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(uvicorn_protocol, 'DRAIN_TIMEOUT', 60)
        async with connect() as used, connect() as new:
            assert await ask(*used) == b'abc'
            await stop_accepting(server[0])
            for reader, writer in used, new:
                writer.write(HEAD + b'\r\n')
                assert b'connection: close' in await reader.readuntil(b'\r\n\r\n')
                assert await reader.read() == b'abc'

    async def test_idle_connection_is_closed_after_a_moment(
        self,
        server: tuple[uvicorn.Server, int],
        connect: Connect,
        shorten: Callable[[str], None],
    ) -> None:
        shorten('DRAIN_TIMEOUT')
        async with connect() as used, connect() as new, connect() as begun:
            assert await ask(*used) == b'abc'
            begun[1].write(HEAD)
            await until_head_has_begun(server[0])
            await stop_accepting(server[0])
            for reader, _ in used, new, begun:
                assert await reader.read() == b''

    async def test_response_that_has_not_started_announces_the_end(
        self, server: tuple[uvicorn.Server, int], app: App, connect: Connect
    ) -> None:
        async with connect() as (reader, writer):
            writer.write(b'GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n')
            await until(lambda: app.calls)
            await stop_accepting(server[0])
            app.released.set()
            assert b'connection: close' in await reader.readuntil(b'\r\n\r\n')
            assert await reader.read() == b'abc'

    @pytest.mark.parametrize('length', [0, 3])
    async def test_connection_outlasts_a_response_that_had_started(
        self,
        server: tuple[uvicorn.Server, int],
        app: App,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        length: int,
    ) -> None:
        monkeypatch.setattr(uvicorn_protocol, 'DRAIN_TIMEOUT', 60)
        async with connect() as (reader, writer):
            head = b'POST /held HTTP/1.1\r\nHost: localhost\r\n'
            writer.write(head + b'Content-Length: %d\r\n\r\n' % length)
            head = await reader.readuntil(b'\r\n\r\n')
            assert b'connection: close' not in head
            await stop_accepting(server[0])
            app.released.set()
            assert await reader.readexactly(6) == b'abcabc'
            writer.write(b'end'[:length] + HEAD + b'\r\n')
            assert b'connection: close' in await reader.readuntil(b'\r\n\r\n')
            assert await reader.read() == b'abc'

    async def test_connection_accepted_too_late_is_closed_soon(
        self,
        server: tuple[uvicorn.Server, int],
        connect: Connect,
        shorten: Callable[[str], None],
    ) -> None:
        shorten('DRAIN_TIMEOUT')
        async with connect() as first:
            await ask(*first)
            first_protocol = next(iter(server[0].server_state.connections))
            first_protocol.shutdown()
            async with connect() as (reader, _):
                assert await reader.read() == b''
