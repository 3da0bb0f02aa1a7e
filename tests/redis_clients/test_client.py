from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aioredis
import birdisle.aioredis
import pytest

from asgilook.redis_clients import client
from asgilook.redis_clients.aioredis import AioredisDriver
from asgilook.redis_clients.client import RETRY_SECONDS, Redis

from ..conftest import RedisServer, logged, until


class Connector:
    """Stands for `create_redis_pool`: fails while it is `down`, counts, keeps pools."""

    def __init__(self) -> None:
        self.down = False
        self.pools: list[Any] = []
        self.tries = 0

    async def __call__(self, address: Any) -> Any:
        self.tries += 1
        if self.down:
            raise ConnectionRefusedError('refused')
        self.pools.append(await birdisle.aioredis.create_redis_pool(address))
        return self.pools[-1]


class Clock:
    """Stands for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(client, 'time', clock)
    return clock


def answering(pool: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return what stands for `create_redis_pool`, with this pool."""

    async def connect(address: Any) -> Any:
        return pool

    return connect


@pytest.fixture
def connector() -> Connector:
    return Connector()


def test_values(connector: Connector, redis: RedisServer) -> None:
    async def main() -> None:
        client = Redis(AioredisDriver(connector, redis.address), 10)
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

    asyncio.run(main())
    assert redis.keys() == set()


def test_large_value_is_never_read_whole(
    connector: Connector, redis: RedisServer
) -> None:
    redis.execute('SET', 'key', bytes(10_000_000))

    async def main() -> None:
        client = Redis(AioredisDriver(connector, redis.address), 10)
        await client.start()
        assert await client.get('key', 1000) is None
        await client.stop()

    before = redis.execute('INFO', 'stats')
    asyncio.run(main())
    after = redis.execute('INFO', 'stats')
    sent = [
        int(info.partition(b'net_output_bytes:')[2].split()[0])
        for info in (before, after)
    ]
    assert sent[1] - sent[0] < 20_000


def test_pool_is_used_again_on_its_loop(
    connector: Connector, redis: RedisServer
) -> None:
    client = Redis(AioredisDriver(connector, redis.address), 10)

    async def main() -> None:
        for number in range(3):
            await client.start()
            await client.set(f'key{number}', b'value', 60)
            await client.stop()

    for loops in (1, 2):
        asyncio.run(main())
        assert len(connector.pools) == loops
    assert len(redis.keys()) == 3


def test_redis_that_comes_back(
    connector: Connector,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
) -> None:
    connector.down = True

    async def main() -> None:
        client = Redis(AioredisDriver(connector, redis.address), 10)
        await client.start()
        for _ in range(3):
            await client.set('key', b'value', 60)
            clock.now += 2
        connector.down = False
        await client.set('key', b'value', 60)
        assert await client.get('key', 9) == b'value'
        await client.stop()

    asyncio.run(main())
    gone, back = logged(caplog)
    assert 'refused' in gone
    assert back == 'WARNING Redis is back'


def test_redis_that_is_down_is_left_alone(
    connector: Connector, redis: RedisServer, clock: Clock
) -> None:
    connector.down = True

    async def main() -> None:
        client = Redis(AioredisDriver(connector, redis.address), 10)
        await client.start()
        connector.down = False
        await client.set('key', b'value', 60)
        clock.now += RETRY_SECONDS - 0.001
        assert await client.get('key', 9) is None
        assert connector.tries == 1
        clock.now += 0.001
        assert await client.get('key', 9) is None
        assert connector.tries == 2
        await client.set('key', b'value', 60)
        await client.stop()

    asyncio.run(main())
    assert redis.keys() == {'key'}


def test_redis_that_is_down_is_tried_by_one_request(clock: Clock) -> None:
    tries = []

    async def connect(address: Any) -> None:
        tries.append(address)
        if len(tries) > 1:
            await asyncio.Event().wait()
        raise ConnectionRefusedError

    async def main() -> None:
        client = Redis(AioredisDriver(connect, 'redis://cache.example'), 10)
        await client.start()
        clock.now += RETRY_SECONDS
        trying = asyncio.create_task(client.get('key', 9))
        await until(lambda: len(tries) == 2)
        assert [await client.get('key', 9) for _ in range(3)] == [None] * 3
        assert len(tries) == 2
        trying.cancel()

    asyncio.run(main())


def test_hanging_command_closes_its_connections(
    connector: Connector, redis: RedisServer
) -> None:
    """A SET that was given up must not land later, when Redis wakes up."""

    async def main() -> None:
        pool = await connector(redis.address)
        client = Redis(AioredisDriver(answering(pool), redis.address), 0.2)
        await client.start()
        redis.execute('CLIENT', 'PAUSE', 300)
        await client.set('key', b'value', 60)
        assert pool.connection.size == 0
        await client.stop()

    asyncio.run(main())
    redis.execute('PING')  # answered when the pause is over
    assert redis.keys() == set()


def test_fault_counts_once_however_many_commands_it_hits(clock: Clock) -> None:
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

    async def main() -> None:
        client = Redis(AioredisDriver(answering(Pool()), None), 10)
        asked = [asyncio.create_task(client.get('key', 9)) for _ in range(9)]
        await until(lambda: len(answers) == 9)
        for answer in answers[:8]:
            answer.set_exception(ConnectionResetError())
        answers[8].set_result(b'late')
        assert await asyncio.gather(*asked) == [None] * 8 + [b'late']
        assert len(cleared) == 1
        assert await client.get('key', 9) is None
        assert len(answers) == 9  # it is down, whatever came late

    asyncio.run(main())


def test_state(connector: Connector, redis: RedisServer, clock: Clock) -> None:
    async def main() -> None:
        client = Redis(AioredisDriver(connector, redis.address), 10)
        connector.down = True
        await client.start()
        assert await client.state() == 'down'
        connector.down = False
        clock.now += RETRY_SECONDS
        assert await client.state() == 'up'
        await client.stop()
        nothing = Redis(AioredisDriver(answering(None), None), 10)
        assert await nothing.state() == 'none'

    asyncio.run(main())


def test_refused_command_is_logged_once_a_minute(
    connector: Connector,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
) -> None:
    redis.execute('RPUSH', 'key', 'value')

    async def main() -> None:
        client = Redis(AioredisDriver(connector, redis.address), 10)
        await client.start()
        for seconds in (0, 59, 2, 1):
            clock.now += seconds
            assert await asyncio.create_task(client.get('key', 9)) is None
        await client.set('key', b'value', 60)
        assert await client.get('key', 9) == b'value'
        await client.stop()

    asyncio.run(main())
    assert ['WRONGTYPE' in message for message in logged(caplog)] == [True, True]


@pytest.mark.parametrize('error', [aioredis.RedisError('x'), OSError('x'), TypeError()])
def test_failing_clear_is_ignored(error: Exception) -> None:
    class Pool:
        def __init__(self) -> None:
            self.connection = self

        async def ping(self) -> None:
            return None

        async def clear(self) -> None:
            raise error

    async def main() -> None:
        client = Redis(AioredisDriver(answering(Pool()), None), 10)
        await client.start()
        await client.stop()

    asyncio.run(main())
