from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from asgilook.config import Config
from asgilook.errors import Unavailable
from asgilook.events import hub as hub_module
from asgilook.events.hub import (
    HISTORY_SIZE,
    MAX_IN_FLIGHT,
    MAX_SPREAD,
    SPREAD_PER_STREAM,
    Hub,
)
from asgilook.events.messages import parse
from asgilook.events.relay import CHANNEL, Listener, Relay
from asgilook.events.stream import MAX_QUEUE
from asgilook.metrics.registry import Metrics
from asgilook.redis_clients.factory import create_driver
from asgilook.web.lifespan import Draining

from ..conftest import RedisServer, logged, until
from ..event_streams import image_json, read_stream

ID = '12ab-34cd'


class FakeRelay(Relay):
    """Records messages; `accepts` is false while there is no Redis."""

    def __init__(self) -> None:
        self.accepts = False
        self.sent: list[bytes] = []

    @property
    def is_connected(self) -> bool:
        return self.accepts

    def start(self, listener: Listener) -> None:
        pass

    async def stop(self) -> None:
        pass

    def send(self, message: bytes) -> bool:
        if self.accepts:
            self.sent.append(message)
        return self.accepts


@contextlib.asynccontextmanager
async def running(relay: Relay, draining: Draining, metrics: Metrics) -> Any:
    await draining.start()
    hub = Hub(relay, draining, metrics)
    await hub.start()
    yield hub
    await hub.stop()
    await draining.stop()


@pytest.fixture
def relay() -> FakeRelay:
    return FakeRelay()


@pytest.fixture
def draining() -> Draining:
    return Draining()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def hub(
    relay: FakeRelay, draining: Draining, metrics: Metrics
) -> AsyncIterator[Hub]:
    async with running(relay, draining, metrics) as hub:
        yield hub


# -- Without Redis ----------------------------------------------------------------


async def test_stream_begins_with_its_position(hub: Hub) -> None:
    stream = hub.subscribe()
    (greeting,) = await read_stream(stream)
    assert greeting == (None, None)
    assert repr(greeting) == f'None None {greeting.id}'
    hub.publish('image', {'id': 'a'})
    hub.publish('deleted', {'id': 'a'})
    found = await read_stream(stream)
    assert found == [('image', {'id': 'a'}), ('deleted', {'id': 'a'})]
    assert greeting.id < found[0].id < found[1].id


async def test_resume_anywhere_in_the_history(hub: Hub) -> None:
    (start,) = await read_stream(hub.subscribe())
    for number in range(4):
        hub.publish('image', number)
    all_ = await read_stream(hub.subscribe(start.id))
    assert all_[:-1] == [('image', number) for number in range(4)]
    assert all_[-1].id == all_[-2].id
    for number in range(4):
        rest = await read_stream(hub.subscribe(all_[number].id))
        assert rest[:-1] == [('image', later) for later in range(number + 1, 4)]
        assert rest[-1].id == all_[-1].id


@pytest.mark.parametrize('last_event_id', ['', ID, 'what?', '☃'])
async def test_resume_after_an_unknown_event_is_a_reload(
    hub: Hub, last_event_id: str
) -> None:
    hub.publish('image', 1)
    reload, position = await read_stream(hub.subscribe(last_event_id))
    assert reload == ('reload', {})
    hub.publish('image', 2)
    resumed = await read_stream(hub.subscribe(position.id))
    assert resumed == [('image', 2), (None, None)]


async def test_ids_differ_while_the_clock_stands_still(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, 'time', SimpleNamespace(time_ns=lambda: 0))
    stream = hub.subscribe()
    await read_stream(stream)
    for name in ('a', 'b'):
        hub.publish('image', {'id': name})
    first, second = await read_stream(stream)
    assert first.id < second.id
    missed, _ = await read_stream(hub.subscribe(first.id))
    assert missed == ('image', {'id': 'b'})


async def test_history_is_bounded(hub: Hub) -> None:
    (start,) = await read_stream(hub.subscribe())
    for number in range(HISTORY_SIZE):
        hub.publish('image', number)
    assert len(await read_stream(hub.subscribe(start.id))) == HISTORY_SIZE + 1
    hub.publish('image', HISTORY_SIZE)
    assert (await read_stream(hub.subscribe(start.id)))[0] == ('reload', {})


async def test_stream_of_slow_client_is_closed(
    hub: Hub, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO', 'asgilook')
    slow, fast = hub.subscribe(), hub.subscribe()
    await read_stream(fast)
    for number in range(MAX_QUEUE + 1):
        hub.publish('image', number)
        await read_stream(fast)
    with pytest.raises(StopAsyncIteration):
        await read_stream(slow)
    assert len(hub) == 1
    assert value(metrics, 'asgilook_event_streams_dropped') == 1
    assert logged(caplog) == ['INFO closed 1 event streams of slow clients']


async def test_dropped_stream_is_forgotten(hub: Hub) -> None:
    stream = hub.subscribe()
    assert len(hub) == 1
    del stream
    gc.collect()
    assert len(hub) == 0


async def test_streams_are_bounded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, 'MAX_STREAMS', 2)
    streams = [hub.subscribe(), hub.subscribe()]
    with pytest.raises(Unavailable, match='Too many event streams are open'):
        hub.subscribe()
    streams.pop()
    gc.collect()
    streams.append(hub.subscribe())


async def test_streams_end_when_the_service_begins_to_stop(
    hub: Hub, draining: Draining
) -> None:
    stream = hub.subscribe()
    await read_stream(stream)
    await draining.stop()
    with pytest.raises(StopAsyncIteration):
        await read_stream(stream)
    with pytest.raises(Unavailable):
        hub.subscribe()


async def test_shutdown_without_startup(
    relay: FakeRelay, draining: Draining, metrics: Metrics
) -> None:
    await Hub(relay, draining, metrics).stop()


async def test_shutdown_leaves_no_task(
    relay: FakeRelay, draining: Draining, metrics: Metrics
) -> None:
    hub = Hub(relay, draining, metrics)
    await draining.start()
    before = asyncio.all_tasks()
    await hub.start()
    await asyncio.sleep(0)
    await hub.stop()
    await until(lambda: asyncio.all_tasks() == before)


async def test_spread_grows_with_the_streams(hub: Hub) -> None:
    streams = [hub.subscribe() for _ in range(10)]
    assert hub.spread() == 10 * SPREAD_PER_STREAM
    streams += [hub.subscribe() for _ in range(2000)]
    assert hub.spread() == MAX_SPREAD


# -- With a Redis that does not return everything ---------------------------------


async def test_event_that_redis_did_not_return_is_delivered_locally(
    hub: Hub, relay: FakeRelay
) -> None:
    relay.accepts = True
    stream = hub.subscribe()
    await read_stream(stream)
    images = [image_json(number) for number in range(3)]
    for image in images:
        hub.publish('image', image)
    hub.on_message(relay.sent[0])
    assert await read_stream(stream) == [('image', images[0])]
    hub.on_disconnect()
    found = await read_stream(stream)
    assert found == [('image', images[1]), ('image', images[2])]
    assert [event.id for event in found] == [
        parse(message).event_id for message in relay.sent[1:]
    ]
    # The other workers have missed them: their clients reload, as those here do.
    hub.on_connect()
    assert parse(relay.sent[3]).name == 'reload'
    assert await read_stream(stream) == [('reload', {})]
    hub.on_message(relay.sent[3])
    assert await read_stream(stream) == [('reload', {})]
    hub.on_connect()
    assert len(relay.sent) == 4


def overflow(hub: Hub, relay: FakeRelay) -> None:
    """Publish more events than may be in flight; the first two of them return."""
    relay.accepts = True
    for number in range(MAX_IN_FLIGHT + 1):
        hub.publish('image', image_json(number))
    for message in relay.sent[:2]:
        hub.on_message(message)
    hub.publish('deleted', {'id': image_json(0)['id']})
    assert len(relay.sent) == MAX_IN_FLIGHT


async def test_reload_replaces_the_events_of_an_overflow(
    hub: Hub, relay: FakeRelay
) -> None:
    stream = hub.subscribe()
    await read_stream(stream)
    overflow(hub, relay)
    returned = await read_stream(stream)
    assert returned == [('image', image_json(0)), ('image', image_json(1))]
    hub.on_sent()
    hub.on_sent()
    (reload,) = relay.sent[MAX_IN_FLIGHT:]
    hub.on_message(relay.sent[2])
    hub.on_message(reload)
    found = await read_stream(stream)
    assert found == [('image', image_json(2)), ('reload', {})]
    assert found[-1].id == parse(reload).event_id
    resumed = await read_stream(hub.subscribe(returned[-1].id))
    assert resumed == [('reload', {}), (None, None)]
    assert await read_stream(hub.subscribe(found[-1].id)) == [(None, None)]


async def test_events_after_an_overflow_are_sent(hub: Hub, relay: FakeRelay) -> None:
    overflow(hub, relay)
    hub.on_sent()
    hub.publish('image', image_json(1))
    names = [parse(message).name for message in relay.sent[MAX_IN_FLIGHT:]]
    assert names == ['reload', 'image']
    hub.on_connect()
    assert len(relay.sent) == MAX_IN_FLIGHT + 2


async def test_connection_lost_during_an_overflow(hub: Hub, relay: FakeRelay) -> None:
    stream = hub.subscribe()
    await read_stream(stream)
    overflow(hub, relay)
    returned = await read_stream(stream)
    relay.accepts = False
    hub.on_disconnect()
    assert await read_stream(stream) == [('reload', {})]
    resumed = await read_stream(hub.subscribe(returned[-1].id))
    assert resumed == [('reload', {}), (None, None)]
    hub.publish('image', image_json(1))
    assert await read_stream(stream) == [('image', image_json(1))]
    relay.accepts = True
    hub.on_connect()
    (reload,) = relay.sent[MAX_IN_FLIGHT:]
    assert parse(reload).name == 'reload'
    hub.on_sent()
    assert relay.sent[-1] is reload


async def test_connection_lost_after_an_overflow(hub: Hub, relay: FakeRelay) -> None:
    stream = hub.subscribe()
    await read_stream(stream)
    overflow(hub, relay)
    await read_stream(stream)
    hub.on_sent()
    hub.on_disconnect()
    assert await read_stream(stream) == [('reload', {})]


# -- With a Redis -----------------------------------------------------------------


@pytest.fixture
async def connected(config: Config, metrics: Metrics) -> AsyncIterator[list[Hub]]:
    """Return two hubs that are connected to one Redis."""
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            Relay(create_driver(config), config.redis_timeout),
            Relay(create_driver(config), config.redis_timeout),
        ]
        hubs = [
            await stack.enter_async_context(running(relay, Draining(), metrics))
            for relay in relays
        ]
        await until(lambda: all(relay.is_connected for relay in relays))
        yield hubs


async def test_event_reaches_each_worker_once(connected: list[Hub]) -> None:
    streams = [hub.subscribe() for hub in connected]
    for stream in streams:
        await read_stream(stream)
    for number in range(3):
        connected[number % 2].publish('image', image_json(number))
        here, there = [(await read_stream(stream)) for stream in streams]
        assert here == there == [('image', image_json(number))]
        assert here[0].id == there[0].id
    deleted = {'id': image_json(0)['id']}
    connected[0].publish('deleted', deleted)
    for stream in streams:
        await read_stream(stream)
    for hub in connected:
        resumed = await read_stream(hub.subscribe(here[0].id))
        assert resumed == [('deleted', deleted), (None, None)]


@pytest.mark.parametrize('limit', ['hub.MAX_IN_FLIGHT', 'relay.MAX_OUTBOX'])
async def test_overflow_is_the_same_for_all_workers(
    connected: list[Hub], limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f'asgilook.events.{limit}', 3)
    streams = [hub.subscribe() for hub in connected]
    for stream in streams:
        await read_stream(stream)
    for number in range(5):
        connected[0].publish('image', image_json(number))
    for stream in streams:
        found = await read_stream(stream)
        async with asyncio.timeout(60):
            while found[-1] != ('reload', {}):
                found += await read_stream(stream)
        sent = [('image', image_json(number)) for number in range(3)]
        assert found == [*sent, ('reload', {})]
    connected[0].publish('image', image_json(5))
    for stream in streams:
        assert await read_stream(stream) == [('image', image_json(5))]


GARBAGE = [
    b'garbage',
    msgpack.packb([1, 2]),
    msgpack.packb([2, ID, 'reload', {}]),
    msgpack.packb([1, ID, 'message', {}]),
    msgpack.packb([1, ID, ['image'], {}]),
    msgpack.packb([1, 7, 'reload', {}]),
    msgpack.packb([1, f'{ID}\ndata: x', 'reload', {}]),
    msgpack.packb([1, ID, 'image', float('nan')]),
    msgpack.packb([1, ID, 'image', None]),
    msgpack.packb([1, ID, 'image', b'bytes']),
    msgpack.packb([1, ID, 'image', 'x' * 100_000]),
    b'\x91' * 60_000 + b'\xc0',
]


async def test_garbage_in_redis_is_ignored_and_counted(
    connected: list[Hub],
    redis: RedisServer,
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
) -> None:
    streams = [hub.subscribe() for hub in connected]
    for stream in streams:
        await read_stream(stream)
    for message in GARBAGE:
        await asyncio.to_thread(redis.execute, 'PUBLISH', CHANNEL, message)
    connected[0].publish('image', image_json(1))
    for stream in streams:
        assert await read_stream(stream) == [('image', image_json(1))]
    count = len(connected) * len(GARBAGE)
    assert value(metrics, 'asgilook_events_invalid') == count
    assert logged(caplog) == []


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f'{name}_total')
