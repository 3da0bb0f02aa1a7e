"""Responses of apps, as clients receive them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgilook.web.asgi_types import HeaderBlock, SharedHeaders

from .test_framing import HOST, Connection, post, request

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]

GET = request('GET', '/')
HEAD = request('HEAD', '/')
OLD = b'GET / HTTP/1.0\r\n' + HOST + b'\r\n'


class App:
    """Sends a response in parts; optionally waits or fails before each of them."""

    def __init__(self, *content: bytes, status: int = 200, **headers: str) -> None:
        self.content = content
        self.status = status
        self.headers = [
            (name.replace('_', '-').encode(), value.encode())
            for name, value in headers.items()
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(
            {
                'type': 'http.response.start',
                'status': self.status,
                'headers': self.headers,
            }
        )
        for part in self.content[:-1]:
            await send({'type': 'http.response.body', 'body': part, 'more_body': True})
        await send({'type': 'http.response.body', 'body': self.content[-1]})


async def answer(app: Any, *segments: bytes) -> tuple[str, set[str], bytes, bool]:
    """Return status, header lines, content, and whether the connection is closed."""
    connection = await Connection(app).send(*segments)
    closed = connection.transport.close.called
    connection.hang_up()
    head, _, content = connection.received.partition(b'\r\n\r\n')
    status, *lines = head.decode().split('\r\n')
    return status, set(lines), content, closed


@pytest.mark.parametrize(
    ('sent', 'app', 'lines', 'content', 'closed'),
    [
        (GET, App(b'abc', content_length='3'), {'content-length: 3'}, b'abc', False),
        (
            GET,
            App(b'ab', b'', b'c', content_length='3'),
            {'content-length: 3'},
            b'abc',
            False,
        ),
        (
            GET,
            App(b'abc', b'', b'de'),
            {'transfer-encoding: chunked'},
            b'3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n',
            False,
        ),
        (GET, App(b''), {'transfer-encoding: chunked'}, b'0\r\n\r\n', False),
        (OLD, App(b'abc', b'de'), {'connection: close'}, b'abcde', True),
        (HEAD, App(b'abc', content_length='3'), {'content-length: 3'}, b'', False),
        (HEAD, App(b'abc'), set(), b'', False),
        (GET, App(b'', status=304, content_length='3'), {'content-length: 3'}, b'', 0),
        (GET, App(b'', status=204), set(), b'', False),
        (
            GET,
            App(b'abc', content_length='3', connection='close'),
            {'content-length: 3', 'connection: close'},
            b'abc',
            True,
        ),
    ],
)
async def test_content_is_delimited(
    sent: bytes, app: Any, lines: set[str], content: bytes, closed: bool
) -> None:
    status, *rest = await answer(app, sent)
    assert status.startswith(f'HTTP/1.1 {app.status} ')
    assert rest == [lines, content, closed]


@pytest.mark.parametrize(
    'app',
    [
        App(b'', content_length='0', x_test='a\nb'),
        App(b'', content_length='0', **{'x(test)': 'a'}),  # type: ignore[arg-type]
        App(b'', status=999),
    ],
)
async def test_malformed_headers_are_rejected(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    status, lines, content, closed = await answer(app, GET)
    assert status == 'HTTP/1.1 500 Internal Server Error'
    assert 'content-type: application/problem+json' in lines
    assert content.startswith(b'{')
    assert closed
    assert 'Exception in ASGI application' in caplog.text


@pytest.mark.parametrize(
    ('app', 'content'),
    [
        (App(b'ab', content_length='3'), b''),
        (App(b'a', b'bcd', content_length='3'), b'a'),
        (App(b'abcd', content_length='3'), b''),
    ],
)
async def test_content_of_a_wrong_length_is_cut_off(
    app: Any, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    *_, received, closed = await answer(app, GET)
    assert received == content
    assert closed
    assert 'Exception in ASGI application' in caplog.text


START = {'type': 'http.response.start', 'status': 204, 'headers': []}
END = {'type': 'http.response.body'}


@pytest.mark.parametrize(
    ('messages', 'status'),
    [
        ([END], '500'),
        ([START, START], ''),
        ([START, END, END], '204'),
        ([START], ''),
        ([], ''),
    ],
)
async def test_messages_out_of_order(messages: list[Any], status: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    line, *_, closed = await answer(app, GET)
    assert line[9:12] == status
    assert closed == (status != '204')


async def test_head_is_sent_while_the_app_waits_for_the_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b'content-length', b'1')]
        await send({**START, 'status': 200, 'headers': headers})
        while (await receive())['type'] != 'http.disconnect':
            pass

    connection = Connection(app)
    connection.protocol.data_received(GET)
    await asyncio.sleep(0)
    assert connection.received.startswith(b'HTTP/1.1 200 OK\r\n')
    connection.hang_up()


async def test_no_100_continue_after_the_response_has_started() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b'content-length', b'0')]
        await send({**START, 'status': 200, 'headers': headers})
        await receive()
        await send(END)

    connection = Connection(app)
    head = request('POST', '/', 'Content-Length: 1', 'Expect: 100-continue')
    await connection.send(head, b'x')
    assert connection.received == b'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'
    connection.hang_up()


async def test_headers_of_a_stream_are_sent_before_its_content() -> None:
    ready = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, 'status': 200})
        await ready.wait()
        await send(END)

    connection = Connection(app)
    connection.protocol.data_received(GET)
    await asyncio.sleep(0)
    assert connection.received.endswith(b'transfer-encoding: chunked\r\n\r\n')
    ready.set()
    await connection.settle()
    assert connection.received.endswith(b'\r\n\r\n0\r\n\r\n')
    connection.hang_up()


async def test_app_that_sends_to_a_disconnected_client() -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while (await receive())['type'] != 'http.disconnect':
            pass
        await send(END)
        sent.append(True)

    connection = Connection(app)
    connection.protocol.data_received(GET)
    connection.hang_up()
    await asyncio.gather(*connection.state.tasks)
    assert sent == [True]
    assert connection.received == b'HTTP/1.1 204 No Content\r\n\r\n'


async def test_connection_that_is_closing_takes_no_data() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection.transport.close()
        await send(START)
        await send(END)

    connection = Connection(app)
    await connection.send(GET)
    assert connection.received == b''
    connection.hang_up()


async def test_headers_shared_by_responses() -> None:
    shared = ((b'x-shared', b'yes'), (b'content-length', b'0'))
    block = HeaderBlock(shared)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        own = ((b'x-path', scope['path'].encode()),)
        headers = SharedHeaders(block, own)
        assert [*headers] == [*shared, *own]
        await send({**START, 'status': 200, 'headers': headers})
        await send(END)

    connection = await Connection(app).send(request('GET', '/1'), request('GET', '/2'))
    lines = connection.received.decode().split('\r\n')
    assert [line for line in lines if line.startswith('x-path')] == [
        'x-path: /1',
        'x-path: /2',
    ]
    assert lines.count('x-shared: yes') == lines.count('content-length: 0') == 2
    connection.hang_up()


async def test_large_body_is_read_as_the_app_receives_it() -> None:
    received = []
    ready = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ready.wait()
        more = True
        while more:
            event = await receive()
            received.append(len(event['body']))
            more = event['more_body']
        await send(START)
        await send(END)

    connection = Connection(app)
    whole = post('/', bytes(200_000))
    connection.protocol.data_received(whole[:100_000])
    await asyncio.sleep(0)
    assert connection.transport.pause_reading.call_count == 1
    ready.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.transport.resume_reading.call_count == 1
    await connection.send(whole[100_000:])
    assert sum(received) == 200_000
    assert connection.received.startswith(b'HTTP/1.1 204 ')
    connection.hang_up()


async def test_body_after_the_response_is_read_to_its_end() -> None:
    """Even if the app has left more of it than is buffered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await App(b'', status=204)(scope, receive, send)

    connection = Connection(app)
    whole = post('/', bytes(300_000))
    connection.protocol.data_received(whole[:100_000])
    await connection.settle()
    assert connection.transport.resume_reading.call_count == 1
    await connection.send(whole[100_000:200_000], whole[200_000:] + GET)
    assert connection.transport.pause_reading.call_count == 1
    assert connection.received.count(b'HTTP/1.1 204 ') == 2
    connection.hang_up()


async def test_failure_of_an_app_that_has_begun(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, 'status': 200})
        await send({**END, 'body': b'abc', 'more_body': True})
        raise KeyError

    *_, content, closed = await answer(app, GET)
    assert content == b'3\r\nabc\r\n'
    assert closed
    assert 'Exception in ASGI application' in caplog.text
