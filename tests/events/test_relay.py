from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import birdisle.aioredis
import pytest

from asgilook.config import create_redis_pool
from asgilook.events import relay
from asgilook.events.relay import CHANNEL, Relay
from asgilook.redis_clients.aioredis import AioredisDriver

from .. import servers
from ..conftest import RedisServer, logged, no_redis


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (of whatever it looks at)
            await asyncio.sleep(0.005)


class Listener:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def joined(self) -> None:
        self.heard.append('joined')

    def received(self, message: bytes) -> None:
        if message:
            self.heard.append(message)

    def left(self) -> None:
        self.heard.append('left')

    async def until(self, *heard: Any) -> None:
        await eventually(lambda: self.heard == list(heard))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, 'RETRY_SECONDS', 0.02)


def during(
    address: Any,
    listener: Listener,
    scenario: Callable[[Relay], Awaitable[None]],
    connect: Any = birdisle.aioredis.create_redis_pool,
    timeout: float = 10,
) -> None:
    async def main() -> None:
        passing = Relay(AioredisDriver(connect, address), timeout, listener)
        passing.start()
        await scenario(passing)
        await passing.stop()

    asyncio.run(main())


def test_messages_reach_everyone_in_one_order(redis: RedisServer) -> None:
    async def main() -> None:
        listeners = [Listener(), Listener()]
        relays = []
        for listener in listeners:
            connect = birdisle.aioredis.create_redis_pool
            driver = AioredisDriver(connect, redis.address)
            relays.append(Relay(driver, 10, listener))
            relays[-1].start()
            await listener.until('joined')
        for number in range(20):
            assert relays[number % 2].send(b'%d' % number)
        await eventually(lambda: all(len(each.heard) == 21 for each in listeners))
        heard, also = (list(listener.heard) for listener in listeners)
        assert heard == also
        for passing in relays:
            await passing.stop()
        assert set(heard[1:]) == {b'%d' % number for number in range(20)}

    asyncio.run(main())


def test_without_redis_nothing_is_sent(listener: Listener) -> None:
    async def scenario(passing: Relay) -> None:
        await asyncio.sleep(0.01)
        assert not passing.send(b'message')

    during(None, listener, scenario, connect=no_redis)
    assert listener.heard == []


def test_stop_before_start(listener: Listener) -> None:
    asyncio.run(Relay(AioredisDriver(no_redis, None), 1, listener).stop())


def test_stop_while_it_joins(
    listener: Listener, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(passing: Relay) -> None:
        await asyncio.sleep(0)

    during(redis.address, listener, scenario)
    assert listener.heard == []
    assert logged(caplog) == []


def test_another_start_uses_the_pool_again(
    listener: Listener, redis: RedisServer
) -> None:
    pools: list[Any] = []

    async def connect(address: Any) -> Any:
        pools.append(await birdisle.aioredis.create_redis_pool(address))
        return pools[-1]

    async def scenario(passing: Relay) -> None:
        await listener.until('joined')
        await passing.stop()
        passing.start()
        await listener.until('joined', 'left', 'joined')

    during(redis.address, listener, scenario, connect=connect)
    assert len(pools) == 1


def test_too_many_messages_are_refused(
    listener: Listener, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, 'OUTBOX', 10)

    async def scenario(passing: Relay) -> None:
        await listener.until('joined')
        assert all(passing.send(b'x') for _ in range(10))
        assert not passing.send(b'x')
        await listener.until('joined', *10 * [b'x'])

    during(redis.address, listener, scenario)


def test_redis_that_is_down_at_first(listener: Listener, tmp_path: Path) -> None:
    with servers.RedisServer(tmp_path) as redis:
        port = redis.port

    async def scenario(passing: Relay) -> None:
        await asyncio.sleep(0.1)
        assert listener.heard == []
        with servers.RedisServer(tmp_path, port):
            await listener.until('joined')
            assert passing.send(b'message')
            await listener.until('joined', b'message')

    during(redis.url, listener, scenario, connect=create_redis_pool, timeout=1)


def test_redis_that_restarts(
    listener: Listener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(passing: Relay) -> None:
        with first:
            await listener.until('joined')
        await listener.until('joined', 'left')
        assert not passing.send(b'lost')
        with servers.RedisServer(tmp_path, first.port) as second:
            await listener.until('joined', 'left', 'joined')
            second.command('PUBLISH', CHANNEL, 'message')
            await listener.until('joined', 'left', 'joined', b'message')
            await passing.stop()
        lost = 'WARNING lost Redis: events stay within their worker'
        assert logged(caplog) == [lost]

    first = servers.RedisServer(tmp_path)
    during(first.url, listener, scenario, connect=create_redis_pool, timeout=1)


def test_redis_that_freezes_is_noticed(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, 'PING_SECONDS', 0.01)

    async def scenario(passing: Relay) -> None:
        await listener.until('joined')
        await asyncio.sleep(0.05)
        with servers.paused(redis.pid):
            await listener.until('joined', 'left')
        await listener.until('joined', 'left', 'joined')

    with servers.RedisServer(tmp_path) as redis:
        during(redis.url, listener, scenario, connect=create_redis_pool, timeout=0.3)


def test_redis_where_publishing_is_forbidden(
    listener: Listener, tmp_path: Path
) -> None:
    async def scenario(passing: Relay) -> None:
        await asyncio.sleep(0.1)
        assert not passing.send(b'message')
        assert listener.heard == []

    with servers.RedisServer(tmp_path) as redis:
        assert redis.command('ACL', 'SETUSER', 'default', '-publish') == 'OK'
        during(redis.url, listener, scenario, connect=create_redis_pool, timeout=1)
