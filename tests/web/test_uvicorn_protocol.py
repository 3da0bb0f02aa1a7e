from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from asgilook.web import uvicorn_protocol
from asgilook.web.uvicorn_protocol import LimitedProtocol

HEAD = b'GET / HTTP/1.1\r\nHost: localhost\r\n'

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once, in as many pieces as the path says, and read no body."""
    pieces = int(scope['path'][1:] or '1')
    headers = [(b'content-length', b'%d' % (pieces * 3))]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    for left in reversed(range(pieces)):
        if pieces > 1:
            await asyncio.sleep(0.01)
        await send(
            {'type': 'http.response.body', 'body': b'abc', 'more_body': left > 0}
        )


def serve(client: Client) -> None:
    """Run a client against a server that uses the protocol."""

    async def main() -> None:
        config = uvicorn.Config(
            app,
            port=0,
            http=LimitedProtocol,
            ws='none',
            lifespan='off',
            log_config=None,
        )
        running = uvicorn.Server(config)
        task = asyncio.create_task(running.serve())
        while not running.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        port = running.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection('127.0.0.1', port)
        async with asyncio.timeout(20):
            await client(reader, writer)
        writer.close()
        running.should_exit = True
        await task

    asyncio.run(main())


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one response; return its body."""
    head = await reader.readuntil(b'\r\n\r\n')
    length = next(
        int(line.split(b':')[1])
        for line in head.splitlines()
        if line.lower().startswith(b'content-length')
    )
    return await reader.readexactly(length)


def test_what_is_no_http_is_a_problem() -> None:
    async def client(reader: Any, writer: Any) -> None:
        writer.write(b'FOO!BAR / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        head, _, body = (await reader.read()).partition(b'\r\n\r\n')
        assert head.startswith(b'HTTP/1.1 400 Bad Request\r\ndate: ')
        assert b'content-type: application/problem+json' in head
        assert b'content-length: %d\r\n' % len(body) in head
        assert json.loads(body)['status'] == 400

    serve(client)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'HEAD_SECONDS', 0.2)
    monkeypatch.setattr(uvicorn_protocol, 'LINGER_SECONDS', 0.2)


@pytest.mark.parametrize('path', [b'/', b'/1', b'/5'])
def test_answers_on_one_connection(path: bytes) -> None:
    async def client(reader: Any, writer: Any) -> None:
        for _ in range(3):
            writer.write(b'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' % path)
            assert await answer(reader) == b'abc' * int(path[1:] or b'1')

    serve(client)


def test_answers_to_requests_sent_at_once() -> None:
    async def client(reader: Any, writer: Any) -> None:
        writer.write((HEAD + b'\r\n') * 3)
        assert [await answer(reader) for _ in range(3)] == [b'abc'] * 3

    serve(client)


@pytest.mark.parametrize('sent', [b'', b'G', HEAD])
def test_unfinished_head_ends_the_connection(hasty: None, sent: bytes) -> None:
    async def client(reader: Any, writer: Any) -> None:
        writer.write(sent)
        assert await reader.read() == b''

    serve(client)


def test_unfinished_second_head_ends_the_connection(hasty: None) -> None:
    async def client(reader: Any, writer: Any) -> None:
        writer.write(HEAD + b'\r\n')
        assert await answer(reader) == b'abc'
        writer.write(HEAD)
        assert await reader.read() == b''

    serve(client)


def test_head_of_slow_bytes_ends_the_connection(hasty: None) -> None:
    async def client(reader: Any, writer: Any) -> None:
        writer.write(HEAD)
        end = asyncio.create_task(reader.read())
        while not end.done():
            writer.write(b'X: y\r\n')
            await asyncio.wait([end], timeout=0.05)
        with contextlib.suppress(ConnectionError):
            assert await end == b''

    serve(client)


def test_endless_head_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'HEAD_BYTES', 1000)

    async def client(reader: Any, writer: Any) -> None:
        writer.write(HEAD + b'X: %s\r\n' % bytes(100).replace(b'\0', b'x') + b'\r\n')
        assert await answer(reader) == b'abc'
        writer.write(HEAD + b'X: ' + b'x' * 2000)
        assert await reader.read() == b''

    serve(client)


def test_body_behind_its_answer_is_dropped(hasty: None) -> None:
    post = b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n'

    async def client(reader: Any, writer: Any) -> None:
        writer.write(post)
        assert await answer(reader) == b'abc'
        writer.write(bytes(100000))
        writer.write(HEAD + b'\r\n')
        assert await answer(reader) == b'abc'
        writer.write(post)
        assert await answer(reader) == b'abc'
        assert await reader.read() == b''

    serve(client)


@contextlib.asynccontextmanager
async def another(writer: Any) -> AsyncIterator[Any]:
    """Open one more connection to the server of `writer`."""
    host, port = writer.get_extra_info('peername')
    reader, writer = await asyncio.open_connection(host, port)
    yield reader, writer
    writer.close()


async def ask(reader: Any, writer: Any) -> bytes:
    writer.write(HEAD + b'\r\n')
    return await answer(reader)


def test_longest_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'most_connections', lambda: 2)

    async def client(reader: Any, writer: Any) -> None:
        assert await ask(reader, writer) == b'abc'
        async with another(writer) as second:
            assert await ask(*second) == b'abc'
            assert await ask(reader, writer) == b'abc'
            async with another(writer) as third:
                assert await ask(*third) == b'abc'
                assert await second[0].read() == b''
                assert await ask(reader, writer) == b'abc'

    serve(client)


def test_no_room_among_busy_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, 'most_connections', lambda: 1)

    async def client(reader: Any, writer: Any) -> None:
        writer.write(b'GET /100 HTTP/1.1\r\nHost: localhost\r\n\r\n')
        await reader.readuntil(b'\r\n\r\n')
        async with another(writer) as second:
            assert await second[0].read() == b''
        assert await reader.readexactly(3) == b'abc'
        writer.transport.abort()

    serve(client)


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        ((1024, 524288), (65536, 524288)),
        ((1024, 4096), (4096, 4096)),
        ((4096, 4096), None),
        ((1024, resource.RLIM_INFINITY), (65536, resource.RLIM_INFINITY)),
        ((100000, 524288), None),
    ],
)
def test_file_limit(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, int],
    after: tuple[int, int] | None,
) -> None:
    limits = []
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: before)
    monkeypatch.setattr(resource, 'setrlimit', lambda kind, new: limits.append(new))
    uvicorn_protocol.raise_file_limit()
    assert limits == ([] if after is None else [after])


def test_connections_leave_room_for_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < uvicorn_protocol.most_connections() < soft
