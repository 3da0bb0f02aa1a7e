from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import Unavailable
from asgilook.events import hub as hub_module
from asgilook.events.hub import HISTORY, Hub
from asgilook.events.relay import CHANNEL
from asgilook.events.stream import QUEUE, Subscription
from asgilook.web.lifespan import Draining

from ..conftest import Json, RedisServer, logged, no_redis, serve
from ..servers import HOST, Server, until
from ..servers import RedisServer as RealRedis
from .test_relay import eventually

ID = '12ab-34cd'


class Event:
    """An event of a stream, or what only sets the client's last event id."""

    def __init__(self, block: str) -> None:
        fields = dict(line.split(': ', 1) for line in block.splitlines())
        self.name = fields.get('event')
        self.id = fields['id']
        self.data = json.loads(fields['data']) if self.name else None

    def __eq__(self, other: object) -> bool:
        return (self.name, self.data) == other

    def __repr__(self) -> str:
        return f'{self.name} {self.data} {self.id}'


def parse(text: bytes) -> list[Event]:
    blocks = text.decode().split('\n\n')
    return [Event(block) for block in blocks if 'id: ' in block]


async def read(stream: Subscription, seconds: float = 5) -> list[Event]:
    async with asyncio.timeout(seconds):
        data = b''
        while not data:
            data = (await anext(stream)).serialize()
    return parse(data)


def during(config: Config, scenario: Callable[[Hub], Awaitable[None]]) -> None:
    """Run a hub."""

    async def main() -> None:
        draining = Draining()
        await draining.start()
        hub = Hub(config, draining)
        await hub.start()
        await scenario(hub)
        await hub.stop()
        await draining.stop()

    asyncio.run(main())


@pytest.fixture
def alone(config: Config) -> Config:
    config.create_redis_pool = no_redis
    return config


async def joined(hub: Hub) -> None:
    """Wait until a hub has joined Redis."""
    await eventually(lambda: hub._relay._is_joined)


# -- A hub on its own -------------------------------------------------------------


def test_subscriber_learns_where_it_is_and_what_comes(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        stream = hub.subscribe()
        (greeting,) = await read(stream)
        assert greeting == (None, None)
        hub.publish('image', {'id': 'a'})
        hub.publish('deleted', {'id': 'a'})
        found = await read(stream)
        assert found == [('image', {'id': 'a'}), ('deleted', {'id': 'a'})]
        assert greeting.id < found[0].id < found[1].id

    during(alone, scenario)


def test_resume_anywhere_in_the_history(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        (start,) = await read(hub.subscribe())
        assert repr(start) == f'None None {start.id}'
        for number in range(4):
            hub.publish('image', number)
        all_ = await read(hub.subscribe(start.id))
        assert all_[:-1] == [('image', number) for number in range(4)]
        assert all_[-1].id == all_[-2].id
        for number in range(4):
            rest = await read(hub.subscribe(all_[number].id))
            assert rest[:-1] == [('image', later) for later in range(number + 1, 4)]
            assert rest[-1].id == all_[-1].id

    during(alone, scenario)


@pytest.mark.parametrize('last', ['', ID, 'what?', '☃'])
def test_resume_from_what_is_unknown_is_a_reload(alone: Config, last: str) -> None:
    async def scenario(hub: Hub) -> None:
        hub.publish('image', 1)
        reload, place = await read(hub.subscribe(last))
        assert reload == ('reload', {})
        hub.publish('image', 2)
        assert await read(hub.subscribe(place.id)) == [('image', 2), (None, None)]

    during(alone, scenario)


def test_history_is_bounded(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        (start,) = await read(hub.subscribe())
        for number in range(HISTORY):
            hub.publish('image', number)
        assert len(await read(hub.subscribe(start.id))) == HISTORY + 1
        hub.publish('image', HISTORY)
        assert (await read(hub.subscribe(start.id)))[0] == ('reload', {})

    during(alone, scenario)


def test_subscriber_that_does_not_read_is_dropped(
    alone: Config, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(hub: Hub) -> None:
        lazy, eager = hub.subscribe(), hub.subscribe()
        await read(eager)
        for number in range(QUEUE + 1):
            hub.publish('image', number)
            await read(eager)
        with pytest.raises(StopAsyncIteration):
            await read(lazy)
        assert (len(hub), hub.dropped) == (1, 1)

    during(alone, scenario)
    assert logged(caplog) == ['WARNING dropped 1 subscribers that did not read']


def test_subscriber_that_goes_away_is_forgotten(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        stream = hub.subscribe()
        assert len(hub) == 1
        del stream
        gc.collect()
        assert len(hub) == 0

    during(alone, scenario)


def test_subscribers_are_bounded(
    alone: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, 'SUBSCRIBERS', 2)

    async def scenario(hub: Hub) -> None:
        streams = [hub.subscribe(), hub.subscribe()]
        with pytest.raises(Unavailable):
            hub.subscribe()
        streams.pop()
        gc.collect()
        streams.append(hub.subscribe())

    during(alone, scenario)


def test_streams_end_as_soon_as_the_service_begins_to_stop(alone: Config) -> None:
    async def main() -> None:
        draining = Draining()
        await draining.start()
        hub = Hub(alone, draining)
        await hub.start()
        stream = hub.subscribe()
        await read(stream)
        await draining.stop()
        with pytest.raises(StopAsyncIteration):
            await read(stream, seconds=1)
        with pytest.raises(Unavailable):
            hub.subscribe()
        await hub.stop()

    asyncio.run(main())


def test_shutdown_without_startup(alone: Config) -> None:
    asyncio.run(Hub(alone, Draining()).stop())


def test_many_subscribers_take_their_time(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        streams = [hub.subscribe() for _ in range(10)]
        assert hub._spread() == 10 * hub_module.SPREAD
        streams += [hub.subscribe() for _ in range(2000)]
        assert hub._spread() == hub_module.MOST_SPREAD

    during(alone, scenario)


# -- Through Redis ----------------------------------------------------------------


def test_event_reaches_each_worker_once(config: Config) -> None:
    async def scenario(hub: Hub) -> None:
        other = Hub(config, Draining())
        await other.start()
        await joined(hub)
        await joined(other)
        streams = [hub.subscribe(), other.subscribe()]
        for stream in streams:
            await read(stream)
        for number in range(3):
            (hub if number % 2 else other).publish('image', number)
            here, there = [(await read(stream)) for stream in streams]
            assert here == there == [('image', number)]
            assert here[0].id == there[0].id
        last = here[0].id
        hub.publish('deleted', {})
        await read(streams[1])
        resumed = await read(other.subscribe(last))
        assert resumed == [('deleted', {}), (None, None)]
        await other.stop()

    during(config, scenario)


GARBAGE = [
    b'',
    b'garbage',
    msgpack.packb([1, 2]),
    msgpack.packb([2, ID, 'image', {}]),
    msgpack.packb([1, ID, 'message', {}]),
    msgpack.packb([1, ID, ['image'], {}]),
    msgpack.packb([1, 7, 'image', {}]),
    msgpack.packb([1, f'{ID}\ndata: x', 'image', {}]),
    msgpack.packb([1, ID, 'image', b'bytes']),
    msgpack.packb([1, ID, 'image', 'x' * 100_000]),
]


@pytest.mark.parametrize('message', GARBAGE)
def test_what_else_is_in_redis_is_ignored(
    config: Config, redis: RedisServer, message: bytes
) -> None:
    async def scenario(hub: Hub) -> None:
        await joined(hub)
        stream = hub.subscribe()
        await read(stream)
        redis.execute('PUBLISH', CHANNEL, message)
        hub.publish('image', 1)
        assert await read(stream) == [('image', 1)]

    during(config, scenario)


def test_what_redis_did_not_pass_on_is_told_here(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        sent: list[bytes] = []
        hub._relay.send = lambda m: not sent.append(m)  # type: ignore
        stream = hub.subscribe()
        await read(stream)
        for number in range(3):
            hub.publish('image', number)
        hub.received(sent[0])
        assert await read(stream) == [('image', 0)]
        hub.left()
        found = await read(stream)
        assert found == [('image', 1), ('image', 2)]
        assert [event.id for event in found] == [
            msgpack.unpackb(message)[1] for message in sent[1:]
        ]
        # Others never heard of them: they are told to reload, as this worker is.
        hub.joined()
        assert msgpack.unpackb(sent[3])[2] == 'reload'
        assert await read(stream) == [('reload', {})]
        hub.received(sent[3])
        assert await read(stream) == [('reload', {})]
        hub.joined()
        assert len(sent) == 4

    during(alone, scenario)


def test_what_does_not_come_back_is_bounded(alone: Config) -> None:
    async def scenario(hub: Hub) -> None:
        hub._relay.send = lambda _: True  # type: ignore
        stream = hub.subscribe()
        await read(stream)
        for number in range(HISTORY + 1):
            hub.publish('image', number)
        assert await read(stream) == [('image', HISTORY)]

    during(alone, scenario)


# -- Over HTTP --------------------------------------------------------------------


def test_stream_of_uploads_and_deletions(config: Config, photo: bytes) -> None:
    config.api_token = 'secret'
    headers = {'Authorization': 'Bearer secret'}

    async def scenario(conductor: Any) -> tuple[Any, list[Event], Json]:
        async with conductor.simulate_get_stream('/events') as stream:
            created = await conductor.simulate_post(
                '/images', body=photo, headers=headers
            )
            uri = created.json['image']
            await conductor.simulate_delete(uri, headers=headers)
            text = b''
            async with asyncio.timeout(10):
                while b'deleted' not in text:
                    text += await stream.stream.read()
            return stream, parse(text), created.json

    stream, found, image = serve(create_app(config), scenario)
    assert stream.status_code == 200
    assert stream.headers['content-type'] == 'text/event-stream'
    assert stream.headers['cache-control'] == 'no-store'
    assert stream.headers['x-accel-buffering'] == 'no'
    told = [event for event in found if event.name not in (None, 'reload')]
    assert told == [('image', image), ('deleted', {'id': image['id']})]


def test_refused_upload_is_no_event(
    alone: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Any] = []
    monkeypatch.setattr(Hub, 'publish', lambda *event: published.append(event))
    client = TestClient(create_app(alone))
    assert client.simulate_post('/images', body=b'text').status_code == 415
    assert published == []


def test_head_has_the_headers_and_ends(client: TestClient) -> None:
    result = client.simulate_head('/events')
    assert result.status_code == 200
    assert result.headers['content-type'] == 'text/event-stream'
    assert result.headers['cache-control'] == 'no-store'
    assert 'content-length' not in result.headers
    assert 'x-asgilook-cache' not in result.headers


class Subscriber(threading.Thread):
    """Reads a stream of a real server to its end."""

    def __init__(self, port: int, last: str | None = None) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(HOST, port, timeout=30)
        headers = {'Last-Event-ID': last} if last else {}
        self._connection.request('GET', '/events', headers=headers)
        self._response = self._connection.getresponse()
        self.lines: list[tuple[float, str]] = []
        self.start()

    def run(self) -> None:
        with contextlib.closing(self._connection), self._response as response:
            for line in response:
                self.lines.append((time.monotonic(), line.decode().strip()))

    def at(self, text: str) -> float:
        """Wait for a line with `text`; return when it came."""
        return until(lambda: next((t for t, line in self.lines if text in line), 0.0))

    def last_id(self) -> str:
        return [line for _, line in self.lines if line.startswith('id: ')][-1][4:]


def test_upload_on_one_worker_reaches_all(tmp_path: Path, photo: bytes) -> None:
    with (
        RealRedis(tmp_path) as redis,
        Server(tmp_path, '--workers', '2', redis_host=redis.url) as server,
    ):
        until(lambda: redis.command('PUBSUB', 'NUMSUB', CHANNEL)[1] == 2)
        subscribers = server.on_each_worker(lambda: Subscriber(server.port))
        for subscriber in subscribers:
            subscriber.at('id: ')
        image = server.upload(photo)
        uploaded = time.monotonic()
        for subscriber in subscribers:
            assert subscriber.at(image['id']) - uploaded < 1
        last = subscribers[0].last_id()
        missed = server.upload(photo)
        for subscriber in subscribers:
            subscriber.at(missed['id'])
        resumed = server.on_each_worker(lambda: Subscriber(server.port, last))
        for subscriber in resumed:
            subscriber.at(missed['id'])
            assert image['id'] not in str(subscriber.lines)
            assert 'reload' not in str(subscriber.lines)


def test_redis_that_comes_back_within_ten_seconds(tmp_path: Path, photo: bytes) -> None:
    with RealRedis(tmp_path) as redis:
        port, url = redis.port, redis.url
        server = Server(tmp_path, '--workers', '2', redis_host=url)
        with server:
            until(lambda: redis.command('PUBSUB', 'NUMSUB', CHANNEL)[1] == 2)
            subscribers = server.on_each_worker(lambda: Subscriber(server.port))
            redis.stop()
            server.logged('lost Redis', 2)
            alone = server.upload(photo)
            until(lambda: any(alone['id'] in str(s.lines) for s in subscribers))
            with RealRedis(tmp_path, port) as again:
                start = time.monotonic()
                for subscriber in subscribers:
                    assert subscriber.at('event: reload') - start < 10
                until(lambda: again.command('PUBSUB', 'NUMSUB', CHANNEL)[1] == 2)
                image = server.upload(photo)
                for subscriber in subscribers:
                    subscriber.at(image['id'])


def test_sigterm_ends_open_streams(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        subscribers = [Subscriber(server.port) for _ in range(3)]
        for subscriber in subscribers:
            subscriber.at('id: ')
        start = time.monotonic()
        assert server.stop() == -signal.SIGTERM
        assert time.monotonic() - start < 3
        for subscriber in subscribers:
            subscriber.join(1)
            assert not subscriber.is_alive()
