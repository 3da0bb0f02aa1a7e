from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, NoReturn

import falcon.testing
import pytest
from falcon.asgi import SSEvent
from falcon.testing import ASGIConductor, ASGIResponseEventCollector

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import BodyTimeout, StorageUnavailable
from asgilook.web import uploads
from asgilook.web.lifespan import Draining
from asgilook.web.uploads import FORM_OVERHEAD, MIN_RATE, GuardedBody

from .. import samples
from ..conftest import files
from ..virtual_time import VIRTUAL_TIME

BODY = samples.photo(64, 64)
FORM = 'multipart/form-data; boundary=x'

Event = dict[str, Any]


def part(body: bytes, *, more: bool) -> Event:
    return {'type': 'http.request', 'body': body, 'more_body': more}


HANG_UP: Event = {'type': 'http.disconnect'}


class Client:
    """Sends these ASGI events as its body, and then nothing more."""

    def __init__(self, events: list[Event]) -> None:
        self.silent = asyncio.Event()
        self._events = list(events)

    async def receive(self) -> Event:
        if not self._events:
            self.silent.set()
            await asyncio.Event().wait()
        return self._events.pop(0)

    async def post(
        self, app: Any, headers: dict[str, str] | None = None, path: str = '/images'
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        sent = ASGIResponseEventCollector()
        scope = falcon.testing.create_scope(path, method='POST', headers=headers)
        await app(scope, self.receive, sent)
        assert isinstance(sent.status, int)
        return sent.status, b''.join(sent.body_chunks)


def announced(length: int) -> dict[str, str]:
    return {'Content-Length': str(length)}


@pytest.mark.parametrize(
    ('status', 'events', 'headers'),
    [
        (201, [part(BODY, more=False)], announced(len(BODY))),
        (201, [part(BODY[:9], more=True), part(BODY[9:], more=False)], {}),
        (201, [part(BODY, more=True), part(b'', more=False)], {}),
        (201, [part(b'', more=True), part(BODY, more=False), HANG_UP], {}),
        (201, [part(BODY, more=True), {'type': 'http.request'}], {}),
        (400, [{'type': 'http.request'}], {}),
        # Shorter than announced.
        (400, [part(BODY, more=False)], announced(len(BODY) + 1)),
        (400, [part(b'', more=False)], announced(len(BODY))),
        # The client hangs up.
        (400, [HANG_UP], {}),
        (400, [HANG_UP], announced(len(BODY))),
        (400, [part(BODY, more=True), HANG_UP], {}),
        (400, [part(BODY[:-12], more=True), HANG_UP], announced(len(BODY))),
        (400, [part(b'--x\r\n', more=True), HANG_UP], {'Content-Type': FORM}),
        # The client stalls.
        (408, [], {}),
        (408, [], announced(len(BODY))),
        (408, [part(BODY, more=True)], {}),
        (408, [part(BODY[:-1], more=True)], announced(len(BODY))),
        (408, [part(b'--x\r\n', more=True)], {'Content-Type': FORM}),
        # Announced to be too large: rejected unread.
        (413, [], announced(10**9)),
    ],
)
async def test_body(
    config: Config, status: int, events: list[Event], headers: dict[str, str]
) -> None:
    config.body_timeout = 0.02
    config.max_upload_size = 10**6
    async with ASGIConductor(create_app(config)) as conductor:
        got, body = await Client(events).post(conductor.app, headers)
        assert got == status, body
        assert (b'problem' in body or b'"status"' in body) is (status >= 400)
        listed = (await conductor.simulate_get('/images')).json
        assert files(config) == {image['id'] for image in listed}
        assert len(listed) == (status == 201)


@pytest.mark.parametrize('method', ['GET', 'HEAD', 'OPTIONS'])
async def test_response_does_not_wait_for_a_body_that_means_nothing(
    config: Config, method: str
) -> None:
    async def receive() -> NoReturn:
        raise AssertionError

    async with ASGIConductor(create_app(config)) as conductor:
        sent = ASGIResponseEventCollector()
        headers = announced(9)
        scope = falcon.testing.create_scope('/images', method=method, headers=headers)
        await conductor.app(scope, receive, sent)
        assert sent.status == 200


async def test_events_end_with_the_connection_after_a_body(config: Config) -> None:
    events = [part(BODY, more=True), part(BODY, more=False), HANG_UP]

    async def receive() -> Event:
        return events.pop(0)

    async with ASGIConductor(create_app(config)) as conductor:
        sent = ASGIResponseEventCollector()
        scope = falcon.testing.create_scope('/events', headers=announced(2 * len(BODY)))
        await conductor.app(scope, receive, sent)
        assert sent.status == 200
    assert events == []


async def test_wait_before_the_body_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as that for another upload with the same key."""
    clock = Clock()
    monkeypatch.setattr(uploads, 'time', clock)

    async def receive() -> Event:
        return part(BODY, more=False)

    body = GuardedBody(receive, 10**6, 1)
    clock.now += 10
    assert (await body.receive())['body'] == BODY


class Clock:
    """Stands for the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_slow_body_is_no_stalled_body(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body may take longer than the timeout, if none of its pieces does."""
    clock = Clock()
    monkeypatch.setattr(uploads, 'time', clock)
    config.body_timeout = 30

    async def receive() -> Event:
        await asyncio.sleep(0)  # the body times out here, if at all
        clock.now += 7
        return pieces.pop(0)

    body = samples.photo(1000, 800)
    size = 7 * (MIN_RATE + 100)
    pieces = [part(body[i : i + size], more=True) for i in range(0, len(body), size)]
    pieces[-1]['more_body'] = False
    async with ASGIConductor(create_app(config)) as conductor:
        sent = ASGIResponseEventCollector()
        scope = falcon.testing.create_scope('/images', method='POST')
        await conductor.app(scope, receive, sent)
        assert sent.status == 201
    assert clock.now > config.body_timeout


class LoopClock:
    """Stands for the module `time`, with the time of the event loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
@pytest.mark.parametrize(('rate', 'fast'), [(MIN_RATE, True), (MIN_RATE - 1, False)])
async def test_body_at_the_minimum_rate(
    monkeypatch: pytest.MonkeyPatch, rate: int, fast: bool
) -> None:
    """A byte now and then doesn't keep a request alive."""
    monkeypatch.setattr(uploads, 'time', LoopClock())

    async def receive() -> Event:
        await asyncio.sleep(1)
        return part(bytes(rate), more=True)

    body = GuardedBody(receive, limit=10**9, timeout=1.05)
    with contextlib.nullcontext() if fast else pytest.raises(BodyTimeout):
        for _ in range(100):
            await body.receive()


class Late:
    """Reads a body, and answers with events long after it."""

    async def on_post(self, req: Any, resp: Any) -> None:
        await req.stream.read()
        resp.sse = self._events()

    async def _events(self) -> AsyncIterator[SSEvent]:
        await asyncio.sleep(0.05)
        yield SSEvent(text='late')


async def test_client_that_waits_is_not_stalled(config: Config) -> None:
    config.body_timeout = 0.01
    app = create_app(config)
    app.add_route('/late', Late())
    events = [part(b'body', more=False)]
    status, body = await Client(events).post(app, path='/late')
    assert (status, b'late' in body) == (200, True)


async def test_upload_that_outlasts_a_stop(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server cancels what exceeds its limit for a graceful shutdown."""
    async with ASGIConductor(create_app(config)) as conductor:
        client = Client([part(BODY, more=True)])
        task = asyncio.create_task(client.post(conductor.app))
        await client.silent.wait()
        monkeypatch.setattr(Draining, 'is_draining', True)
        task.cancel()
        status, body = await task
        assert (status, b'stopping' in body) == (503, True)
        assert not task.cancelling()
    assert files(config) == set()


class Slow:
    """Waits for ever, before or after its answer has begun."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def on_get(self, req: Any, resp: Any) -> None:
        if req.has_param('begun'):
            resp.stream = self._stream()
        else:
            await self._wait()

    async def _stream(self) -> AsyncIterator[bytes]:
        yield b'a'
        await self._wait()

    async def _wait(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ('draining', 'query', 'status'),
    [
        (True, '', 503),
        (True, 'begun=yes', 200),
        (False, '', None),
        (False, 'begun=yes', 200),
    ],
)
async def test_work_that_outlasts_a_stop(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    draining: bool,
    query: str,
    status: int | None,
) -> None:
    monkeypatch.setattr(Draining, 'is_draining', draining)
    app, slow = create_app(config), Slow()
    app.add_route('/slow', slow)
    sent = ASGIResponseEventCollector()
    async with ASGIConductor(app):
        scope = falcon.testing.create_scope('/slow', query_string=query)
        events = falcon.testing.ASGIRequestEventEmitter()
        task = asyncio.create_task(app(scope, events.emit, sent))
        await slow.reached.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is (status != 503)
    assert sent.status == status
    assert (b'The service is stopping.' in b''.join(sent.body_chunks)) is (
        status == 503
    )


class Drain:
    """Reads whatever comes, and says how much."""

    async def on_post(self, req: Any, resp: Any) -> None:
        resp.text = str(len(await req.stream.read()))


@pytest.mark.parametrize('pieces', [1, 3])
async def test_endless_body(config: Config, pieces: int) -> None:
    config.max_upload_size = 1000
    app = create_app(config)
    app.add_route('/drain', Drain())
    most = 1000 + FORM_OVERHEAD

    def events(size: int) -> list[Event]:
        cuts = [size * number // pieces for number in range(pieces + 1)]
        bodies = [bytes(stop - start) for start, stop in pairwise(cuts)]
        return [*(part(body, more=True) for body in bodies), part(b'', more=False)]

    answer = await Client(events(most)).post(app, path='/drain')
    assert answer == (200, b'%d' % most)
    status, body = await Client(events(most + 1)).post(app, path='/drain')
    assert (status, b'1000 bytes' in body) == (413, True)


async def test_first_byte_is_not_asked_for_too_early(config: Config) -> None:
    """A server sends `100 Continue` when it is asked: not before a 401."""
    config.api_token = 's3cret'
    async with ASGIConductor(create_app(config)) as conductor:
        status, _ = await Client([]).post(conductor.app, {'Expect': '100-continue'})
        assert status == 401


async def test_query_that_is_not_ascii(config: Config) -> None:
    async with ASGIConductor(create_app(config)) as conductor:
        scope = falcon.testing.create_scope('/images')
        for query in (b'x=\xff', 'x=\u00e4&limit=1'.encode(), b'limit=1&\x80'):
            scope['query_string'] = query
            sent = ASGIResponseEventCollector()
            emitter = falcon.testing.ASGIRequestEventEmitter()
            await conductor.app(dict(scope), emitter, sent)
            assert (sent.status, sent.body_chunks) == (200, [b'[]'])


class Breaking:
    """Fails in the middle of its response."""

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.set_stream(self._stream(), 100)

    async def _stream(self) -> AsyncIterator[bytes]:
        yield b'half'
        raise StorageUnavailable('The storage is unavailable.')


async def test_response_that_fails_after_its_head_is_cut_off(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(config)
    app.add_route('/breaking', Breaking())
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async with ASGIConductor(app) as conductor:
        scope = falcon.testing.create_scope('/breaking')
        await app(scope, falcon.testing.ASGIRequestEventEmitter(), send)
        metrics = str((await conductor.simulate_get('/metrics')).text)
    assert [message.get('body') for message in messages] == [None, b'half']
    assert messages[-1]['more_body'] is True
    (record,) = (r for r in caplog.records if r.name == 'asgilook.web.application')
    assert record.levelname == 'WARNING'
    assert 'GET /breaking cut off: The storage is unavailable.' in record.getMessage()
    assert record.exc_info is None
    lines = [line for line in metrics.splitlines() if 'requests_total{' in line]
    assert [line.count('status="500"') for line in lines if '/breaking' in line] == [1]
