"""Requests that are hard to distinguish, cut into segments at any place."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from asgilook.web.uvicorn_protocol import LimitedProtocol

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]

HOST = b'Host: localhost\r\n'


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the request, as JSON; to `/early`, before its body is there."""
    body, more = b'', scope['path'] not in ('/early', '/cut')
    while more:
        event = await receive()
        if event['type'] == 'http.disconnect':
            return
        body, more = body + event['body'], event['more_body']
    if scope['path'] == '/slow':
        await asyncio.sleep(0.001)
    request = {
        'method': scope['method'],
        'path': scope['path'],
        'headers': sorted(name.decode() for name, _ in scope['headers']),
        'body': body.decode(),
    }
    answer = json.dumps(request).encode()
    length = (b'content-length', b'%d' % len(answer))
    await send({'type': 'http.response.start', 'status': 200, 'headers': [length]})
    if scope['path'] == '/cut':
        await receive()
    await send({'type': 'http.response.body', 'body': answer})


class Connection:
    """A connection without a socket."""

    def __init__(self, app: Any = echo) -> None:
        self.received = b''
        self.transport = Mock(spec=asyncio.Transport)
        self.transport.get_extra_info.return_value = None
        self.transport.can_write_eof.return_value = False
        self.transport.is_closing = lambda: self.transport.close.called
        self.transport.write = self._write
        self.transport.writelines = lambda pieces: [*map(self._write, pieces)]
        config = uvicorn.Config(app, http=LimitedProtocol, ws='none', lifespan='off')
        self.state = ServerState()
        self.protocol = LimitedProtocol(config, self.state, {})
        self.protocol.connection_made(self.transport)

    def _write(self, data: bytes) -> None:
        if not self.transport.close.called:
            self.received += data

    async def send(self, *segments: bytes) -> Connection:
        """Send segments, until all requests but the last are answered."""
        for segment in segments:
            self.protocol.data_received(segment)
            await self.settle()
        return self

    async def settle(self) -> None:
        """Run the apps as far as they get."""
        for _ in range(4):
            await asyncio.sleep(0)
        while any(not exchange.more_body for exchange in self.protocol.unanswered):
            if self.transport.close.called:
                break
            await asyncio.sleep(0)

    @property
    def responses(self) -> list[Any]:
        """The JSON of the responses, in order; the status of an error."""
        found = []
        rest = self.received.replace(b'HTTP/1.1 100 Continue\r\n\r\n', b'')
        while rest:
            head, _, rest = rest.partition(b'\r\n\r\n')
            lengths = re.findall(rb'\r\ncontent-length: (\d+)', head.lower())
            length = int(lengths[0])
            body, rest = json.loads(rest[:length]), rest[length:]
            found.append(body if head.startswith(b'HTTP/1.1 200 ') else body['status'])
        return found

    @property
    def paths(self) -> list[Any]:
        """The paths of the responses, in order; the status of an error."""
        return [x if isinstance(x, int) else x['path'] for x in self.responses]

    def hang_up(self) -> None:
        self.protocol.connection_lost(None)


def request(method: str, path: str, *headers: str, body: bytes = b'') -> bytes:
    lines = [f'{method} {path} HTTP/1.1', 'Host: localhost', *headers, '', '']
    return '\r\n'.join(lines).encode() + body


def post(path: str, body: bytes, *headers: str) -> bytes:
    return request('POST', path, f'Content-Length: {len(body)}', *headers, body=body)


def chunked(path: str, body: bytes, *headers: str, trailers: bytes = b'') -> bytes:
    half = len(body) // 2
    chunks = b''.join(b'%x\r\n%s\r\n' % (len(x), x) for x in (body[:half], body[half:]))
    headers = 'Transfer-Encoding: chunked', *headers
    return request('POST', path, *headers, body=chunks + b'0\r\n' + trailers + b'\r\n')


UPGRADE = 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAAA'
INNER = request('GET', '/inner')
TRAILERS = b'Authorization: Bearer x\r\nX-Trailer: y\r\nHost: two\r\n'

STREAM = b''.join(
    [
        request('GET', '/1'),
        post('/2', INNER, *UPGRADE),
        b'\r\n',
        chunked('/3', INNER, *UPGRADE, trailers=TRAILERS),
        request('GET', '/4', 'Connection: upgrade', 'Upgrade: websocket'),
        chunked('/5', INNER, trailers=TRAILERS),
        request('GET', '/slow'),
        post('/7', b'body', 'Connection: keep-alive', 'Connection: UPGRADE'),
        request('GET', '/8', *UPGRADE),
        request('GET', '/9'),
    ]
)
PATHS = [f'/{n}' if n != 6 else '/slow' for n in range(1, 10)]


def check(connection: Connection) -> None:
    assert connection.paths == PATHS
    bodies = [x['body'].encode() for x in connection.responses]
    assert bodies == [b'', INNER, INNER, b'', INNER, b'', b'body', b'', b'']
    names = {name for x in connection.responses for name in x['headers']}
    assert not names & {'upgrade', 'authorization', 'x-trailer'}
    assert not connection.transport.close.called
    connection.hang_up()


async def test_requests_in_one_segment() -> None:
    check(await Connection().send(STREAM))


async def test_requests_byte_by_byte() -> None:
    check(await Connection().send(*(bytes([byte]) for byte in STREAM)))


async def test_requests_cut_anywhere() -> None:
    for cut in range(1, len(STREAM), 13):
        check(await Connection().send(STREAM[:cut], STREAM[cut:]))


async def test_requests_cut_at_random() -> None:
    rng = random.Random(1)
    for _ in range(50):
        cuts = sorted(rng.sample(range(len(STREAM)), rng.randint(2, 12)))
        edges = zip([0, *cuts], [*cuts, len(STREAM)], strict=True)
        check(await Connection().send(*(STREAM[a:b] for a, b in edges)))


async def test_thousand_offers_in_one_segment() -> None:
    connection = await Connection().send(request('GET', '/', *UPGRADE) * 1000)
    assert connection.paths == ['/'] * 1000
    connection.hang_up()


@pytest.mark.parametrize('body', [b'', b'Content-Length: 34\r\n'])
async def test_connect_closes(body: bytes) -> None:
    connection = Connection()
    head = b'CONNECT / HTTP/1.1\r\n' + HOST + body + b'\r\n'
    await connection.send(head + INNER, INNER)
    assert connection.paths == ['/']
    assert connection.transport.close.called
    connection.hang_up()


async def test_connect_to_a_host() -> None:
    connection = await Connection().send(b'CONNECT a:80 HTTP/1.1\r\n' + HOST + b'\r\n')
    assert connection.paths == [400]
    connection.hang_up()


@pytest.mark.parametrize(
    ('head', 'expected'),
    [
        (b'GET / HTTP/1.1\r\n\r\n', [400]),
        (b'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n', [400]),
        (b'GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n', [400]),
        (b'GET / HTTP/1.0\r\n\r\n', ['/']),
        (b'GET / HTTP/1.1\r\nHost:\r\n\r\n', ['/']),
        (INNER + b'GET / HTTP/1.1\r\n\r\n' + INNER, ['/inner', 400]),
    ],
)
async def test_host(head: bytes, expected: list[Any]) -> None:
    connection = await Connection().send(head)
    assert connection.paths == expected
    if 400 in expected:
        assert connection.transport.close.called
    connection.hang_up()


@pytest.mark.parametrize(
    ('version', 'expected', 'count'),
    [
        (b'1.0', b'100-continue', 0),
        (b'1.1', b'100-Continue', 1),
        (b'1.1', b'something', 0),
    ],
)
async def test_100_continue(version: bytes, expected: bytes, count: int) -> None:
    head = b'POST / HTTP/%s\r\n%sExpect: %s\r\n' % (version, HOST, expected)
    connection = await Connection().send(head + b'Content-Length: 1\r\n\r\n', b'x')
    assert connection.received.count(b'HTTP/1.1 100 Continue') == count
    assert connection.paths == ['/']
    connection.hang_up()


BAD_HEAD = b'GET / HTTP/1.1\r\nHost : x\r\n\r\n'
BAD_BODY = request('POST', '/bad', 'Transfer-Encoding: chunked', body=b'xyz\r\n')


@pytest.mark.parametrize(
    ('sent', 'expected'),
    [
        (BAD_HEAD, [400]),
        (b'\0', [400]),
        (INNER + BAD_HEAD + INNER, ['/inner', 400]),
        (INNER * 3 + BAD_HEAD, ['/inner', '/inner', '/inner', 400]),
        (request('GET', '/slow') + BAD_HEAD, ['/slow', 400]),
        (request('GET', '/slow', 'Connection: close') + BAD_HEAD, ['/slow']),
        (BAD_BODY, [400]),
        (INNER + BAD_BODY, ['/inner', 400]),
        (INNER * 2 + BAD_BODY + INNER, ['/inner', '/inner', 400]),
        (request('POST', '/x', *UPGRADE, 'Transfer-Encoding: gzip'), [400]),
        (request('POST', '/x', *UPGRADE, 'Content-Length: x'), [400]),
    ],
)
async def test_malformed_data_is_rejected_in_order(
    sent: bytes, expected: list[Any]
) -> None:
    for segments in [sent], [bytes([byte]) for byte in sent]:
        connection = await Connection().send(*segments)
        assert connection.paths == expected
        assert connection.transport.close.called
        connection.hang_up()


@pytest.mark.parametrize('path', ['/early', '/cut'])
async def test_malformed_body_after_the_response_has_started(path: str) -> None:
    connection = Connection()
    head = request('POST', path, 'Transfer-Encoding: chunked')
    await connection.send(head)
    await connection.send(b'xyz\r\n')
    assert connection.received.count(b'HTTP/1.1') == 1
    assert (b'"/early"' in connection.received) == (path == '/early')
    assert connection.transport.close.called
    connection.hang_up()


async def test_end_of_connection_is_reported_to_all_requests() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())['type'] != 'http.disconnect':
            pass
        ended.append(scope['path'])

    connection = Connection(app)
    connection.protocol.data_received(request('GET', '/old') + request('GET', '/new'))
    await asyncio.sleep(0.01)
    connection.hang_up()
    await asyncio.gather(*connection.state.tasks)
    assert ended == ['/old']


async def test_end_of_connection_ends_the_wait_to_send() -> None:
    """For a client that reads nothing, and hangs up."""
    connection = Connection()
    connection.protocol.pause_writing()
    connection.protocol.data_received(INNER)
    await asyncio.sleep(0)
    (task,) = connection.state.tasks
    connection.hang_up()
    async with asyncio.timeout(10):
        await task
    assert connection.received == b''


async def test_no_more_is_read_while_a_request_waits() -> None:
    ready = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ready.wait()
        await echo(scope, receive, send)

    connection = Connection(app)
    connection.protocol.data_received(INNER)
    assert connection.transport.pause_reading.call_count == 0
    connection.protocol.data_received(INNER)
    assert connection.transport.pause_reading.call_count == 1
    ready.set()
    await connection.settle()
    assert connection.transport.resume_reading.call_count == 1
    assert connection.paths == ['/inner', '/inner']
    connection.hang_up()
