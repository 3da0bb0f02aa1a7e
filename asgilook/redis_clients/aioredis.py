"""Redis through aioredis 1.3.1, which pipelines commands on one connection."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from ..backend_urls import redact

# NOTE(warnings): Python 3.14 and newer warn when they compile aioredis (PEP 765).
with warnings.catch_warnings():
    warnings.filterwarnings('ignore', "'return' in a 'finally' block", SyntaxWarning)
    import aioredis


async def create_pool(address: str | None) -> Any:
    """Create a pool that connects at its first command; None without an address."""
    if address is None:
        return None
    parts = urlsplit(address)
    if not parts.password:
        return await aioredis.create_redis_pool(address, minsize=0)
    # aioredis does not decode the password of a URL.
    host = parts._replace(netloc=parts.netloc.rpartition('@')[2])
    return await aioredis.create_redis_pool(
        host.geturl(), password=unquote(parts.password), minsize=0
    )


class AioredisDriver:
    """See `client.Driver`.

    Args:
        create_pool: creates an aioredis pool, or returns None for no Redis.
        address: argument of `create_pool`.
    """

    reply_errors: tuple[type[Exception], ...] = (aioredis.ReplyError,)

    def __init__(
        self, *, create_pool: Callable[[Any], Awaitable[Any]], address: Any
    ) -> None:
        self.address = redact(str(address))
        self._create_pool = create_pool
        self._address = address
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def connect(self) -> bool:
        """Create a pool, or reuse the one of this event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._pool = loop, None
        if self._pool is None:
            self._pool = await self._create_pool(self._address)
        return self._pool is not None

    async def ping(self) -> Any:
        """Return any reply."""
        return await self._pool.ping()

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value up to and including index `end`."""
        return await self._pool.getrange(key, 0, end)

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store a value for `ttl` seconds."""
        await self._pool.set(key, value, expire=ttl)

    async def delete(self, *keys: str) -> None:
        """Remove values."""
        await self._pool.delete(*keys)

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all subscribers of a channel."""
        await self._pool.connection.execute('PUBLISH', channel, message)

    async def subscribe(self, channel: str) -> AioredisPubSub:
        """Subscribe on a connection taken out of the pool."""
        pool = self._pool.connection
        connection = await pool.acquire()
        pubsub = AioredisPubSub(pool, connection, channel)
        try:
            await connection.execute_pubsub('SUBSCRIBE', channel)
        except BaseException:
            pubsub.abort()
            raise
        return pubsub

    async def disconnect(self) -> None:
        """Close the idle connections; the pool opens new ones."""
        if self._pool is not None:
            await self._pool.connection.clear()


class AioredisPubSub:
    """See `client.PubSub`."""

    def __init__(self, pool: Any, connection: Any, channel: str) -> None:
        self._pool = pool
        self._connection = connection
        self._channel = channel

    async def ping(self) -> None:
        """Return once Redis has replied on this connection."""
        await self._connection.execute('PING')

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages until the connection is closed."""
        channel = self._connection.pubsub_channels[self._channel]
        async for message in channel.iter():
            yield message

    def abort(self) -> None:
        """Close the connection without waiting; may be called more than once."""
        self._connection.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.release(self._connection)

    async def close(self) -> None:
        """Unsubscribe by closing the connection."""
        self.abort()
        await self._connection.wait_closed()
