"""One contract for the drivers of all libraries, with a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
import redis.asyncio

from asgilook.config import create_redis_pool
from asgilook.redis_clients import client
from asgilook.redis_clients.aioredis import AioredisDriver
from asgilook.redis_clients.client import Driver, PubSub, Redis
from asgilook.redis_clients.redispy import (
    MAX_CONNECTIONS,
    RedisPyDriver,
    RedisPyPubSub,
    create_client,
)

from ..redis_servers import clients
from ..servers import RedisServer, paused, until

pytestmark = pytest.mark.integration

# Constructors of drivers: redis-py with the clients of the service, and with the
# retries and timeouts of its own.
DRIVERS: dict[str, Callable[..., Driver]] = {
    'aioredis': partial(AioredisDriver, create_pool=create_redis_pool),
    'redis-py': partial(
        RedisPyDriver, create_client=partial(create_client, timeout=60)
    ),
    'from_url': partial(RedisPyDriver, create_client=redis.asyncio.from_url),
}


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp('redis')) as server:
        yield server


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, server: RedisServer) -> Driver:
    server.command('FLUSHALL')
    return DRIVERS[request.param](address=server.url)


@pytest.fixture
async def connected(driver: Driver) -> AsyncIterator[Driver]:
    async with asyncio.timeout(60):
        assert await driver.connect()
        yield driver
        await driver.disconnect()


async def test_values(connected: Driver, server: RedisServer) -> None:
    assert await connected.ping()
    assert await connected.getrange('key', 9) == b''
    await connected.set('key', b'\xff\x00value', 60)
    assert await connected.getrange('key', 9) == b'\xff\x00value'
    assert await connected.getrange('key', 2) == b'\xff\x00v'
    assert 50 < server.command('TTL key') <= 60
    await connected.set('other', b'value', 60)
    await connected.delete('key', 'other', 'third')
    assert server.keys == []


def test_each_event_loop_has_its_own_connections(driver: Driver) -> None:
    async def use() -> None:
        assert await driver.connect()
        await driver.set('key', b'value', 60)
        assert await driver.getrange('key', 9) == b'value'
        await driver.disconnect()

    for _ in range(2):
        asyncio.run(use())


async def test_no_connection_is_left_open(driver: Driver, server: RedisServer) -> None:
    assert await driver.connect()
    await asyncio.gather(*(driver.ping() for _ in range(9)))
    pubsub = await driver.subscribe('channel')
    for _ in range(2):
        await pubsub.close()
    await driver.disconnect()
    await asyncio.to_thread(until, lambda: clients(server) == 1)


async def test_disconnect_before_connect(driver: Driver) -> None:
    await driver.disconnect()


async def test_reply_errors(connected: Driver, server: RedisServer) -> None:
    server.command('RPUSH list value')
    with pytest.raises(connected.reply_errors, match='WRONGTYPE'):
        await connected.getrange('list', 9)
    assert await connected.ping()


async def test_hundreds_of_commands_at_once(
    connected: Driver, server: RedisServer
) -> None:
    await connected.set('key', b'value', 60)
    values = await asyncio.gather(*(connected.getrange('key', 9) for _ in range(500)))
    assert values == [b'value'] * 500
    assert clients(server) <= MAX_CONNECTIONS + 1


async def test_late_reply_is_not_read_as_the_next_one(
    connected: Driver, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, 'RETRY_INTERVAL', 0)
    keys = {f'key{number}': b'%d' % number for number in range(20)}
    for key, value in keys.items():
        await connected.set(key, value, 60)
    impatient = Redis(connected, 0.1)
    with paused(server.pid):
        found = await asyncio.gather(*(impatient.get(key, 9) for key in keys))
        assert found == [None] * 20
        assert await impatient.state() == 'down'
    patient = Redis(connected, 10)
    found = await asyncio.gather(*(patient.get(key, 9) for key in keys))
    assert found == [*keys.values()]


@pytest.mark.parametrize('library', DRIVERS)
@pytest.mark.parametrize(
    'form', ['redis://:PASSWORD@HOST', 'redis://HOST?password=PASSWORD']
)
async def test_password_is_percent_encoded(
    library: str, form: str, tmp_path: Path
) -> None:
    password = 'p@ss/w:+%41'
    with RedisServer(tmp_path, options=f'--requirepass {password}') as server:
        url = form.replace('HOST', server.url.removeprefix('redis://'))
        quoted = url.replace('PASSWORD', quote(password, safe=''))
        driver = DRIVERS[library](address=quoted)
        async with asyncio.timeout(60):
            assert await driver.connect()
            assert await driver.ping()
            await driver.disconnect()
        assert quote(password, safe='') not in driver.address


async def test_messages(connected: Driver) -> None:
    received: list[bytes] = []

    async def receive(pubsub: PubSub) -> None:
        async for message in pubsub.messages():
            received.append(message)

    pubsub = await connected.subscribe('channel')
    await connected.publish('other', b'other')
    await connected.publish('channel', b'first')
    receiving = asyncio.create_task(receive(pubsub))
    for _ in range(2):
        await pubsub.ping()
    await connected.publish('channel', b'\xff\x00')
    await pubsub.ping()
    assert received == [b'first', b'\xff\x00']
    await pubsub.close()
    await asyncio.gather(receiving, return_exceptions=True)


async def test_lost_connection_ends_the_messages(
    connected: Driver, server: RedisServer
) -> None:
    pubsub = await connected.subscribe('channel')
    server.command('CLIENT KILL TYPE pubsub')
    with contextlib.suppress(Exception):
        assert [message async for message in pubsub.messages()] == []
    await pubsub.close()


async def test_reconnection_ends_the_messages(server: RedisServer) -> None:
    """redis-py does it silently; messages may have been lost before."""
    client = redis.asyncio.from_url(server.url)
    async with client, client.pubsub() as pubsub:
        await pubsub.subscribe('channel')
        await pubsub.get_message(timeout=None)
        await pubsub.connection.disconnect()
        with pytest.raises(ConnectionResetError, match='reconnected'):
            await anext(RedisPyPubSub(pubsub).messages())


async def test_forbidden_channel(driver: Driver, server: RedisServer) -> None:
    assert server.command('ACL SETUSER default -subscribe') == 'OK'
    try:
        assert await driver.connect()
        with pytest.raises(driver.reply_errors, match='permission'):
            await driver.subscribe('channel')
        await driver.disconnect()
    finally:
        server.command('ACL SETUSER default +subscribe')
    await asyncio.to_thread(until, lambda: clients(server) == 1)


@pytest.mark.parametrize('library', DRIVERS)
async def test_driver_without_address(library: str) -> None:
    driver = DRIVERS[library](address=None)
    assert not await driver.connect()
    await driver.disconnect()


@pytest.mark.parametrize('library', ['redis-py', 'from_url'])
async def test_url_that_redis_py_rejects_raises_no_error(library: str) -> None:
    client = Redis(DRIVERS[library](address='http://one'), 10)
    assert await client.get('key', 9) is None
