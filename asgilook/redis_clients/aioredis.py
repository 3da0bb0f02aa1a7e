"""Redis through aioredis 1.3.1, which sends many commands through one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aioredis

from ..backend_urls import redact


async def create_pool(address: str | None) -> Any:
    """Create a pool that connects at its first command; None for no address."""
    if address is None:
        return None
    return await aioredis.create_redis_pool(address, minsize=0)


class AioredisDriver:
    """See `redis_driver.Driver`.

    Args:
        create_pool: makes an aioredis pool, or None for no Redis.
        address: where it connects to.
    """

    refusals: tuple[type[Exception], ...] = (aioredis.ReplyError,)

    def __init__(
        self, create_pool: Callable[[Any], Awaitable[Any]], address: Any
    ) -> None:
        self.address = redact(str(address))
        self._create_pool = create_pool
        self._address = address
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def connect(self) -> bool:
        """Make a pool; one of an earlier time on this event loop is used again."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._pool = loop, None
        if self._pool is None:
            self._pool = await self._create_pool(self._address)
        return self._pool is not None

    async def ping(self) -> Any:
        """Ask for any answer."""
        return await self._pool.ping()

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value from the first to number `end`."""
        return await self._pool.getrange(key, 0, end)

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Keep a value for `ttl` seconds."""
        await self._pool.set(key, value, expire=ttl)

    async def delete(self, *keys: str) -> None:
        """Remove the values of all these keys."""
        await self._pool.delete(*keys)

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all who hear a channel."""
        await self._pool.connection.execute('PUBLISH', channel, message)

    async def subscribe(self, channel: str) -> AioredisSubscription:
        """Hear a channel, on a connection taken out of the pool."""
        pool = self._pool.connection
        connection = await pool.acquire()
        subscription = AioredisSubscription(pool, connection, channel)
        try:
            await connection.execute_pubsub('SUBSCRIBE', channel)
        except BaseException:
            subscription.hang_up()
            raise
        return subscription

    async def disconnect(self) -> None:
        """Close the connections that nobody uses; the pool opens others."""
        if self._pool is not None:
            await self._pool.connection.clear()


class AioredisSubscription:
    """See `redis_driver.Subscription`."""

    def __init__(self, pool: Any, connection: Any, channel: str) -> None:
        self._pool = pool
        self._connection = connection
        self._channel = channel

    async def ping(self) -> None:
        """Return once Redis has answered on this very connection."""
        await self._connection.execute('PING')

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield what comes, until the connection is closed."""
        channel = self._connection.pubsub_channels[self._channel]
        async for message in channel.iter():
            yield message

    def hang_up(self) -> None:
        """Close the connection, without waiting for that; also once more."""
        self._connection.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.release(self._connection)

    async def close(self) -> None:
        """Hear no more, and close the connection."""
        self.hang_up()
        await self._connection.wait_closed()
