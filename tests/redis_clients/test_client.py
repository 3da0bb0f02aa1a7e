from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aioredis
import pytest

from asgilook.redis_clients.aioredis import AioredisDriver
from asgilook.redis_clients.client import RETRY_INTERVAL, Redis

from ..conftest import RedisServer, logged, until


class Connector:
    """A `create_redis_pool` that fails while it is `down`, and keeps its pools."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        self.down = False
        self.pools: list[Any] = []
        self.attempts = 0

    async def __call__(self, address: Any) -> Any:
        self.attempts += 1
        if self.down:
            raise ConnectionRefusedError('refused')
        self.pools.append(await self.redis.create_pool(address))
        return self.pools[-1]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connector(redis: RedisServer) -> Connector:
    return Connector(redis)


@pytest.fixture
def client(connector: Connector, redis: RedisServer, clock: Clock) -> Redis:
    driver = AioredisDriver(create_pool=connector, address=redis.address)
    return Redis(driver, 10, clock=clock)


def returning(pool: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return a `create_redis_pool` that returns this pool."""

    async def connect(address: Any) -> Any:
        return pool

    return connect


async def test_values(client: Redis, redis: RedisServer) -> None:
    await client.start()
    assert await client.get('key', 9) is None
    await client.set('key', b'123456789', 60)
    assert await client.get('key', 9) == b'123456789'
    assert await client.get('key', 8) is None
    await client.set('key', b'other', 60)
    assert await client.get('key', 9) == b'other'
    await client.set('second', b'value', 60)
    await client.delete('key', 'second', 'third')
    assert await client.get('key', 9) is await client.get('second', 9) is None
    await client.stop()
    assert redis.keys() == set()


async def test_large_value_is_never_read_whole(
    client: Redis, redis_engine: RedisServer
) -> None:
    redis_engine.execute('SET', 'key', bytes(10_000_000))
    before = redis_engine.execute('INFO', 'stats')
    await client.start()
    assert await client.get('key', 1000) is None
    await client.stop()
    after = redis_engine.execute('INFO', 'stats')
    sent = [
        int(info.partition(b'net_output_bytes:')[2].split()[0])
        for info in (before, after)
    ]
    assert sent[1] - sent[0] < 20_000


def test_pool_is_reused_on_its_loop(
    client: Redis, connector: Connector, redis: RedisServer
) -> None:
    async def start_and_stop() -> None:
        for number in range(3):
            await client.start()
            await client.set(f'key{number}', b'value', 60)
            await client.stop()

    for loops in (1, 2):
        asyncio.run(start_and_stop())
        assert len(connector.pools) == loops
    assert len(redis.keys()) == 3


async def test_redis_becomes_available(
    client: Redis,
    connector: Connector,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
) -> None:
    connector.down = True
    await client.start()
    for _ in range(3):
        await client.set('key', b'value', 60)
        clock.now += 2
    connector.down = False
    await client.set('key', b'value', 60)
    assert await client.get('key', 9) == b'value'
    await client.stop()
    unavailable, available = logged(caplog)
    assert unavailable.startswith('WARNING Redis unavailable at ')
    assert unavailable.endswith(' (refused): continuing without it')
    assert available == 'WARNING Redis is available again'


async def test_unavailable_redis_gets_no_commands(
    client: Redis, connector: Connector, redis: RedisServer, clock: Clock
) -> None:
    connector.down = True
    await client.start()
    connector.down = False
    await client.set('key', b'value', 60)
    clock.now += RETRY_INTERVAL - 0.001
    assert await client.get('key', 9) is None
    assert connector.attempts == 1
    clock.now += 0.001
    assert await client.get('key', 9) is None
    assert connector.attempts == 2
    await client.set('key', b'value', 60)
    await client.stop()
    assert redis.keys() == {'key'}


async def test_unavailable_redis_is_tried_by_one_request(clock: Clock) -> None:
    attempts = []

    async def connect(address: Any) -> None:
        attempts.append(address)
        if len(attempts) > 1:
            await asyncio.Event().wait()
        raise ConnectionRefusedError

    driver = AioredisDriver(create_pool=connect, address='redis://cache.example')
    client = Redis(driver, 10, clock=clock)
    await client.start()
    clock.now += RETRY_INTERVAL
    trial = asyncio.create_task(client.get('key', 9))
    await until(lambda: len(attempts) == 2)
    assert [await client.get('key', 9) for _ in range(3)] == [None] * 3
    assert len(attempts) == 2
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial


async def test_command_that_times_out_closes_its_connections(
    connector: Connector, redis_engine: RedisServer
) -> None:
    """A SET that timed out must not run later, when Redis wakes up."""
    pool = await connector(redis_engine.address)
    driver = AioredisDriver(create_pool=returning(pool), address=redis_engine.address)
    client = Redis(driver, 0.2)
    await client.start()
    redis_engine.execute('CLIENT', 'PAUSE', 300)
    await client.set('key', b'value', 60)
    assert pool.connection.size == 0
    await client.stop()
    redis_engine.execute('PING')  # answered when the pause is over
    assert redis_engine.keys() == set()


async def test_fault_counts_once_for_all_of_its_commands(clock: Clock) -> None:
    """Thousands of late failures must not each close what was opened since."""
    cleared: list[int] = []
    answers: list[asyncio.Future[bytes]] = []

    class Pool:
        def __init__(self) -> None:
            self.connection = self

        async def getrange(self, *args: Any) -> bytes:
            answers.append(asyncio.get_running_loop().create_future())
            return await answers[-1]

        async def clear(self) -> None:
            cleared.append(len(cleared))

    driver = AioredisDriver(create_pool=returning(Pool()), address=None)
    client = Redis(driver, 10, clock=clock)
    requests = [asyncio.create_task(client.get('key', 9)) for _ in range(9)]
    await until(lambda: len(answers) == 9)
    for answer in answers[:8]:
        answer.set_exception(ConnectionResetError())
    answers[8].set_result(b'late')
    assert await asyncio.gather(*requests) == [None] * 8 + [b'late']
    assert len(cleared) == 1
    assert await client.get('key', 9) is None
    assert len(answers) == 9  # it is unavailable, despite the late reply


async def test_state(client: Redis, connector: Connector, clock: Clock) -> None:
    connector.down = True
    await client.start()
    assert await client.state() == 'down'
    connector.down = False
    clock.now += RETRY_INTERVAL
    assert await client.state() == 'up'
    await client.stop()


async def test_state_without_redis() -> None:
    client = Redis(AioredisDriver(create_pool=returning(None), address=None), 10)
    assert await client.state() == 'none'
    assert await client.get('key', 9) is None
    await client.set('key', b'value', 60)
    await client.delete('key')


async def test_state_of_redis_that_rejects_pings(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping(driver: AioredisDriver) -> None:
        raise aioredis.ReplyError('NOPERM')

    monkeypatch.setattr(AioredisDriver, 'ping', ping)
    assert await client.state() == 'down'
    await client.set('key', b'value', 60)
    assert await client.get('key', 9) == b'value'
    await client.stop()


async def test_rejected_command_is_logged_once_a_minute(
    client: Redis,
    redis_engine: RedisServer,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
) -> None:
    redis_engine.execute('RPUSH', 'key', 'value')
    await client.start()
    for seconds in (0, 59, 2, 1):
        clock.now += seconds
        # NOTE(coveragepy#2124): on Python 3.11, an exception in an awaited coroutine
        # hides what its awaiters run next, unless that is in another task.
        assert await asyncio.create_task(client.get('key', 9)) is None
    await client.set('key', b'value', 60)
    assert await client.get('key', 9) == b'value'
    await client.stop()
    message = 'WARNING Redis rejected a command: WRONGTYPE'
    assert [line.startswith(message) for line in logged(caplog)] == [True, True]


class Pool:
    """A pool of connections to a Redis that responds, whose `clear` is given."""

    def __init__(self, clear: Callable[[], Awaitable[object]]) -> None:
        self.connection = self
        self.clear = clear

    async def ping(self) -> None:
        """Respond."""


@pytest.mark.parametrize('error', [aioredis.RedisError('x'), OSError('x'), TypeError()])
async def test_failure_to_disconnect_is_ignored(error: Exception) -> None:
    async def clear() -> None:
        raise error

    pool = Pool(clear=clear)
    client = Redis(AioredisDriver(create_pool=returning(pool), address=None), 10)
    await client.start()
    await client.stop()


async def test_disconnect_has_a_time_limit() -> None:
    pool = Pool(clear=asyncio.Event().wait)
    client = Redis(AioredisDriver(create_pool=returning(pool), address=None), 0.01)
    await client.start()
    async with asyncio.timeout(60):
        await client.stop()
