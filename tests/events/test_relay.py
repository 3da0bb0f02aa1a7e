from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aioredis
import pytest

from asgilook.config import create_redis_pool
from asgilook.events import relay as relay_module
from asgilook.events.relay import CHANNEL, PING_INTERVAL, RETRY_INTERVAL, Relay
from asgilook.redis_clients.aioredis import AioredisDriver

from .. import servers
from ..conftest import RedisServer, logged, no_redis, until
from ..virtual_time import VIRTUAL_TIME

LOST = 'WARNING Redis unavailable (connection closed): events stay within their worker'
RECONNECTED = 'WARNING Redis is available again: events are shared between workers'
FORBIDDEN = 'NOPERM this user has no permissions to access a channel'
REJECTED = (
    f'WARNING Redis rejected pub/sub ({FORBIDDEN}): events stay within their worker'
)
ACCEPTED = 'WARNING Redis accepts pub/sub: events are shared between workers'


class Recorder:
    """A listener that records what it receives."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.sent_at: list[float] = []

    def on_connect(self) -> None:
        self.received.append('connected')

    def on_message(self, message: bytes) -> None:
        self.received.append(message)

    def on_sent(self) -> None:
        self.sent_at.append(asyncio.get_running_loop().time())

    def on_disconnect(self) -> None:
        self.received.append('disconnected')

    async def until(self, *received: Any) -> None:
        await until(lambda: self.received == list(received))


@pytest.fixture
def listener() -> Recorder:
    return Recorder()


@contextlib.asynccontextmanager
async def running(
    address: Any,
    listener: Recorder,
    create_pool: Callable[[Any], Awaitable[Any]] = create_redis_pool,
    timeout: float = 30,
) -> AsyncIterator[Relay]:
    driver = AioredisDriver(create_pool=create_pool, address=address)
    relay = Relay(driver, timeout)
    relay.start(listener)
    yield relay
    await relay.stop()


def in_process(redis: RedisServer, listener: Recorder) -> Any:
    return running(redis.address, listener, redis.create_pool, timeout=10)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, 'RETRY_INTERVAL', 0.02)
    monkeypatch.setattr(relay_module, 'PING_INTERVAL', 0.01)


# -- With a Redis in this process, or a real one ----------------------------------


async def test_messages_reach_all_in_one_order(redis: RedisServer) -> None:
    one, two = Recorder(), Recorder()
    async with in_process(redis, one) as first, in_process(redis, two) as second:
        await one.until('connected')
        await two.until('connected')
        for number in range(20):
            assert (first, second)[number % 2].send(b'%d' % number)
        await until(lambda: len(one.received) == len(two.received) == 21)
        assert one.received == two.received
        assert {*one.received[1:]} == {b'%d' % number for number in range(20)}
    assert one.received[-1] == two.received[-1] == 'disconnected'


async def test_without_redis_nothing_is_sent(listener: Recorder) -> None:
    async with running(None, listener, create_pool=no_redis) as relay:
        await asyncio.sleep(0.01)
        assert not relay.send(b'message')
        assert not relay.is_connected
    assert listener.received == []


async def test_stop_before_start() -> None:
    driver = AioredisDriver(create_pool=no_redis, address=None)
    await Relay(driver, 1).stop()


async def test_stop_while_it_connects(
    listener: Recorder, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process(redis, listener):
        await asyncio.sleep(0)
    assert listener.received == []
    assert logged(caplog) == []


async def test_another_start_reuses_the_pool(
    listener: Recorder, redis: RedisServer
) -> None:
    pools: list[Any] = []

    async def create_pool(address: Any) -> Any:
        pools.append(await redis.create_pool(address))
        return pools[-1]

    async with running(redis.address, listener, create_pool, timeout=10) as relay:
        await listener.until('connected')
        await relay.stop()
        relay.start(listener)
        await listener.until('connected', 'disconnected', 'connected')
    assert len(pools) == 1


async def test_outbox_is_bounded(
    listener: Recorder, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, 'MAX_OUTBOX', 10)
    async with in_process(redis, listener) as relay:
        await listener.until('connected')
        assert all(relay.send(b'x') for _ in range(10))
        assert not relay.send(b'x')
        await listener.until('connected', *10 * [b'x'])


@pytest.mark.integration
@pytest.mark.usefixtures('short_pauses')
async def test_redis_starts_later(listener: Recorder, tmp_path: Path) -> None:
    port = servers.free_port()
    async with running(f'redis://{servers.HOST}:{port}', listener) as relay:
        await asyncio.sleep(0.1)
        assert listener.received == []
        with servers.RedisServer(tmp_path, port):
            await listener.until('connected')
            assert relay.send(b'message')
            await listener.until('connected', b'message')
            await relay.stop()


@pytest.mark.integration
@pytest.mark.usefixtures('short_pauses')
async def test_redis_restarts(
    listener: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = servers.free_port()
    received: list[Any] = []
    async with running(f'redis://{servers.HOST}:{port}', listener) as relay:
        for _ in range(3):
            with servers.RedisServer(tmp_path, port) as redis:
                received += ['connected', b'message', b'own']
                await until(lambda: relay.is_connected)
                redis.command('PUBLISH', CHANNEL, 'message')
                await listener.until(*received[:-1])
                assert relay.send(b'own')
                await listener.until(*received)
            received += ['disconnected']
            await listener.until(*received)
            assert not relay.send(b'lost')
    lines = [re.sub(r'\(.*\)', '(connection closed)', line) for line in logged(caplog)]
    assert lines == [LOST, RECONNECTED, LOST, RECONNECTED, LOST]


@pytest.mark.integration
@pytest.mark.usefixtures('short_pauses')
async def test_frozen_redis_is_noticed(listener: Recorder, tmp_path: Path) -> None:
    with servers.RedisServer(tmp_path) as redis:
        async with running(redis.url, listener, timeout=0.3):
            await listener.until('connected')
            await asyncio.sleep(0.05)
            with servers.paused(redis.pid):
                await listener.until('connected', 'disconnected')
            await listener.until('connected', 'disconnected', 'connected')


@pytest.mark.integration
@pytest.mark.usefixtures('short_pauses')
@pytest.mark.parametrize(
    ('forbid', 'permit'),
    [('-publish', '+publish'), ('resetchannels', f'&{CHANNEL}')],
)
async def test_events_are_forbidden(
    listener: Recorder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    forbid: str,
    permit: str,
) -> None:
    with servers.RedisServer(tmp_path) as redis:
        assert redis.command('ACL', 'SETUSER', 'default', forbid) == 'OK'
        async with running(redis.url, listener) as relay:
            await until(lambda: logged(caplog))
            assert not relay.send(b'message')
            assert listener.received == []
            assert redis.command('ACL', 'SETUSER', 'default', permit) == 'OK'
            await listener.until('connected')
    rejected, accepted = logged(caplog)
    assert re.sub(r'\(.*\)', f'({FORBIDDEN})', rejected) == REJECTED
    assert 'permission' in rejected
    assert accepted == ACCEPTED


# -- With a driver that fails, in virtual time ------------------------------------


class FakePubSub:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | BaseException] = asyncio.Queue()
        self.ping_error: BaseException | None = None
        self.close_error: BaseException | None = OSError('already closed')
        self.pinged_at: list[float] = []
        self.closed = 0

    async def ping(self) -> None:
        self.pinged_at.append(asyncio.get_running_loop().time())
        if self.ping_error is not None:
            raise self.ping_error

    async def messages(self) -> AsyncIterator[bytes]:
        while True:
            item = await self.queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    async def close(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error
        await asyncio.Event().wait()


class FakeDriver:
    """A driver whose n-th subscription raises the n-th of `errors`."""

    address = 'fake'
    reply_errors: tuple[type[Exception], ...] = (aioredis.ReplyError,)

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = [*errors]
        self.pubsubs: list[FakePubSub] = []
        self.subscribed_at: list[float] = []
        self.disconnected = 0

    async def connect(self) -> bool:
        return True

    async def publish(self, channel: str, message: bytes) -> None:
        await self.pubsubs[-1].queue.put(message)

    async def subscribe(self, channel: str) -> FakePubSub:
        self.subscribed_at.append(asyncio.get_running_loop().time())
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.pubsubs.append(FakePubSub())
        return self.pubsubs[-1]

    async def disconnect(self) -> None:
        self.disconnected += 1

    ping = getrange = set = delete = disconnect


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@contextlib.asynccontextmanager
async def faked(driver: Any, listener: Recorder) -> AsyncIterator[Relay]:
    relay = Relay(driver, 1)
    relay.start(listener)
    yield relay
    await relay.stop()
    assert all(pubsub.closed == 1 for pubsub in driver.pubsubs)
    assert len(driver.subscribed_at) == driver.disconnected


ERRORS = [
    ConnectionResetError('x'),
    AssertionError(),
    TimeoutError(),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
@pytest.mark.parametrize('error', ERRORS)
class TestFailures:
    async def test_subscribe(self, listener: Recorder, error: BaseException) -> None:
        driver = FakeDriver(error, error)
        async with faked(driver, listener):
            await listener.until('connected')
        times = [0, RETRY_INTERVAL, 2 * RETRY_INTERVAL]
        assert driver.subscribed_at == pytest.approx(times)

    async def test_receive(
        self,
        driver: FakeDriver,
        listener: Recorder,
        error: BaseException,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async with faked(driver, listener) as relay:
            await listener.until('connected')
            driver.pubsubs[0].queue.put_nowait(error)
            await listener.until('connected', 'disconnected')
            assert not relay.is_connected
            await listener.until('connected', 'disconnected', 'connected')
            assert relay.send(b'message')
            await until(lambda: b'message' in listener.received)
        lost, reconnected = logged(caplog)
        reason = str(error) or type(error).__name__
        if isinstance(error, asyncio.CancelledError):
            reason = 'cancelled'
        assert lost == LOST.replace('connection closed', reason)
        assert reconnected == RECONNECTED

    async def test_ping(
        self, driver: FakeDriver, listener: Recorder, error: BaseException
    ) -> None:
        async with faked(driver, listener) as relay:
            await listener.until('connected')
            driver.pubsubs[0].ping_error = error
            driver.pubsubs[0].close_error = error
            assert relay.send(b'message')
            await listener.until('connected', 'disconnected', 'connected')


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_rejections_are_logged_once(
    listener: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    error = aioredis.ReplyError(FORBIDDEN)
    driver = FakeDriver(error, OSError(), error)
    async with faked(driver, listener):
        await listener.until('connected')
    assert logged(caplog) == [REJECTED, ACCEPTED]


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_rejection_after_a_loss(
    listener: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver(None, aioredis.ReplyError(FORBIDDEN))
    async with faked(driver, listener):
        await listener.until('connected')
        driver.pubsubs[0].queue.put_nowait(ConnectionResetError('connection closed'))
        await listener.until('connected', 'disconnected', 'connected')
    assert logged(caplog) == [LOST, REJECTED, ACCEPTED]


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_rejection_on_an_open_connection(
    driver: FakeDriver, listener: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    async with faked(driver, listener) as relay:
        await listener.until('connected')
        driver.pubsubs[0].ping_error = aioredis.ReplyError(FORBIDDEN)
        assert relay.send(b'message')
        await listener.until('connected', 'disconnected', 'connected')
    assert logged(caplog) == [REJECTED, ACCEPTED]


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_idle_connection_is_pinged(
    driver: FakeDriver, listener: Recorder
) -> None:
    async with faked(driver, listener):
        await asyncio.sleep(3.5 * PING_INTERVAL)
    (pubsub,) = driver.pubsubs
    times = [PING_INTERVAL, 2 * PING_INTERVAL, 3 * PING_INTERVAL]
    assert pubsub.pinged_at == pytest.approx(times)
    assert listener.sent_at == pytest.approx(times)


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_listener_learns_when_all_messages_are_sent(listener: Recorder) -> None:
    class SlowDriver(FakeDriver):
        async def publish(self, channel: str, message: bytes) -> None:
            await asyncio.sleep(0.5)
            await super().publish(channel, message)

    async with faked(SlowDriver(), listener) as relay:
        await listener.until('connected')
        assert all(relay.send(message) for message in (b'a', b'b', b'c'))
        await listener.until('connected', b'a', b'b', b'c')
        await until(lambda: listener.sent_at)
        assert listener.sent_at == pytest.approx([2], abs=0.1)


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_stop_does_not_wait_for_the_next_attempt(listener: Recorder) -> None:
    driver = FakeDriver(OSError())
    async with faked(driver, listener):
        await asyncio.sleep(RETRY_INTERVAL / 2)
    now = asyncio.get_running_loop().time()
    assert now == pytest.approx(RETRY_INTERVAL / 2)
    assert driver.subscribed_at == [0]


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_close_that_hangs_is_abandoned(
    driver: FakeDriver, listener: Recorder
) -> None:
    async with faked(driver, listener) as relay:
        await listener.until('connected')
        driver.pubsubs[0].close_error = None
        await relay.stop()
        assert listener.received == ['connected', 'disconnected']
    assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize('anyio_backend', [VIRTUAL_TIME])
async def test_stop_before_publishing_is_known_to_be_permitted(
    listener: Recorder,
) -> None:
    class SlowDriver(FakeDriver):
        async def publish(self, channel: str, message: bytes) -> None:
            self.pubsubs[-1].close_error = None
            await asyncio.sleep(0.5)

    async with faked(SlowDriver(), listener):
        await asyncio.sleep(0.2)
    assert asyncio.get_running_loop().time() == pytest.approx(1.2, abs=0.1)
    assert listener.received == []
