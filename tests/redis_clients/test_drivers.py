"""One contract for the drivers of all libraries, with a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis.asyncio

from asgilook.config import create_redis_pool
from asgilook.redis_clients import client
from asgilook.redis_clients.aioredis import AioredisDriver
from asgilook.redis_clients.client import Driver, Redis, Subscription
from asgilook.redis_clients.redispy import (
    CONNECTIONS,
    RedisPyDriver,
    RedisPySubscription,
    create_client,
)

from ..redis_servers import clients
from ..servers import RedisServer, paused, until

# What makes a driver, by its library: redis-py as the service makes its clients, and
# with the retries and timeouts of its own.
DRIVERS: dict[str, Callable[[str], Driver]] = {
    'aioredis': partial(AioredisDriver, create_redis_pool),
    'redis-py': partial(RedisPyDriver, partial(create_client, timeout=10)),
    'from_url': partial(RedisPyDriver, redis.asyncio.from_url),
}


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp('redis')) as server:
        yield server


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, server: RedisServer) -> Driver:
    server.command('FLUSHALL')
    return DRIVERS[request.param](server.url)


def connected(driver: Driver, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            assert await driver.connect()
            await scenario()
            await driver.disconnect()

    asyncio.run(main())


def test_values(driver: Driver, server: RedisServer) -> None:
    async def scenario() -> None:
        assert await driver.ping()
        assert await driver.getrange('key', 9) == b''
        await driver.set('key', b'\xff\x00value', 60)
        assert await driver.getrange('key', 9) == b'\xff\x00value'
        assert await driver.getrange('key', 2) == b'\xff\x00v'
        assert 50 < server.command('TTL key') <= 60
        await driver.set('other', b'value', 60)
        await driver.delete('key', 'other', 'third')
        assert server.keys == []

    connected(driver, scenario)


def test_each_event_loop_has_its_own_connections(
    driver: Driver, server: RedisServer
) -> None:
    async def scenario() -> None:
        await driver.set('key', b'value', 60)
        assert await driver.getrange('key', 9) == b'value'

    for _ in range(2):
        connected(driver, scenario)


def test_nothing_is_left_open(driver: Driver, server: RedisServer) -> None:
    async def scenario() -> None:
        await asyncio.gather(*(driver.ping() for _ in range(9)))
        await (await driver.subscribe('channel')).close()

    connected(driver, scenario)
    until(lambda: clients(server) == 1)


def test_disconnect_before_connect(driver: Driver) -> None:
    asyncio.run(driver.disconnect())


def test_refusals(driver: Driver, server: RedisServer) -> None:
    server.command('RPUSH list value')

    async def scenario() -> None:
        with pytest.raises(driver.refusals, match='WRONGTYPE'):
            await driver.getrange('list', 9)
        assert await driver.ping()

    connected(driver, scenario)


def test_hundreds_of_commands_at_once(driver: Driver, server: RedisServer) -> None:
    async def scenario() -> None:
        await driver.set('key', b'value', 60)
        values = await asyncio.gather(*(driver.getrange('key', 9) for _ in range(500)))
        assert values == [b'value'] * 500
        assert clients(server) <= CONNECTIONS + 1

    connected(driver, scenario)


def test_answer_of_a_command_that_was_given_up_is_nobody_elses(
    driver: Driver, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, 'RETRY_SECONDS', 0)
    keys = {f'key{number}': b'%d' % number for number in range(20)}

    async def scenario() -> None:
        for key, value in keys.items():
            await driver.set(key, value, 60)
        client = Redis(driver, 0.1)
        with paused(server.pid):
            found = await asyncio.gather(*(client.get(key, 9) for key in keys))
            assert found == [None] * 20
            assert await client.state() == 'down'
        client = Redis(driver, 10)
        found = await asyncio.gather(*(client.get(key, 9) for key in keys))
        assert found == [*keys.values()]

    connected(driver, scenario)


def test_messages(driver: Driver, server: RedisServer) -> None:
    heard: list[bytes] = []

    async def hear(subscription: Subscription) -> None:
        async for message in subscription.messages():
            heard.append(message)

    async def scenario() -> None:
        subscription = await driver.subscribe('channel')
        await driver.publish('other', b'other')
        await driver.publish('channel', b'first')
        hearing = asyncio.create_task(hear(subscription))
        for _ in range(2):
            await subscription.ping()
        await driver.publish('channel', b'\xff\x00')
        await subscription.ping()
        assert heard == [b'first', b'\xff\x00']
        await subscription.close()
        await asyncio.wait([hearing])

    connected(driver, scenario)


def test_connection_that_is_lost_ends_the_messages(
    driver: Driver, server: RedisServer
) -> None:
    async def scenario() -> None:
        subscription = await driver.subscribe('channel')
        server.command('CLIENT KILL TYPE pubsub')
        try:
            heard: list[Any] = [each async for each in subscription.messages()]
        except Exception:
            heard = []
        assert heard == []
        await subscription.close()

    connected(driver, scenario)


def test_subscribing_once_more_ends_the_messages(server: RedisServer) -> None:
    """What redis-py does without a word: messages may have been lost between."""

    async def main() -> None:
        client = redis.asyncio.from_url(server.url)
        async with client, client.pubsub() as pubsub:
            await pubsub.subscribe('channel')
            await pubsub.get_message(timeout=None)
            await pubsub.connection.disconnect()
            with pytest.raises(ConnectionResetError, match='once more'):
                await anext(RedisPySubscription(pubsub).messages())

    asyncio.run(main())


def test_channel_that_is_forbidden(driver: Driver, server: RedisServer) -> None:
    async def scenario() -> None:
        with pytest.raises(driver.refusals, match='permission'):
            await driver.subscribe('channel')

    assert server.command('ACL SETUSER default -subscribe') == 'OK'
    try:
        connected(driver, scenario)
    finally:
        server.command('ACL SETUSER default +subscribe')
    until(lambda: clients(server) == 1)


def test_client_without_address_is_none() -> None:
    driver = RedisPyDriver(redis.asyncio.from_url, None)
    assert not asyncio.run(driver.connect())
    asyncio.run(driver.disconnect())


@pytest.mark.parametrize('library', ['redis-py', 'from_url'])
def test_url_that_redis_py_refuses_is_no_error(library: str) -> None:
    client = Redis(DRIVERS[library]('http://one'), 10)
    assert asyncio.run(client.get('key', 9)) is None
