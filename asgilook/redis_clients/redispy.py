"""Redis through redis-py: what the framework's tutorial uses, Sentinel, Cluster, ACL.

A command has a connection to itself, so their number is bounded here. One that is
given up closes its connection: its answer must not be read as that of the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import redis.exceptions

from ..config import redact

# Commands under way in a process; redis-py's pools fail at 100 connections.
CONNECTIONS = 64


class RedisPyDriver:
    """See `redis_driver.Driver`.

    Args:
        create_client: makes a client of `redis.asyncio`, for any or for one server.
        address: where it connects to; None for no Redis.
    """

    refusals: tuple[type[Exception], ...] = (redis.exceptions.ResponseError,)

    def __init__(
        self, create_client: Callable[[str], Any], address: str | None
    ) -> None:
        self.address = redact(str(address))
        self._create_client = create_client
        self._address = address
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def connect(self) -> bool:
        """Make a client; one of an earlier time on this event loop is used again."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._client = loop, None
            self._free = asyncio.Semaphore(CONNECTIONS)
        if self._client is None and self._address is not None:
            self._client = self._create_client(self._address)
        return self._client is not None

    async def ping(self) -> Any:
        """Ask for any answer."""
        async with self._free:
            return await self._client.ping()

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value from the first to number `end`."""
        async with self._free:
            return await self._client.getrange(key, 0, end)

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Keep a value for `ttl` seconds."""
        async with self._free:
            await self._client.set(key, value, ex=ttl)

    async def delete(self, *keys: str) -> None:
        """Remove the values of all these keys, in a Cluster those of each slot."""
        async with self._free:
            await self._client.delete(*keys)

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all who hear a channel, in a Cluster at any node."""
        async with self._free:
            await self._client.publish(channel, message)

    async def subscribe(self, channel: str) -> RedisPySubscription:
        """Hear a channel, on a connection taken out of the pool."""
        await self._client.initialize()  # a Cluster must know its nodes for this
        pubsub = self._client.pubsub()
        try:
            await pubsub.subscribe(channel)
            await pubsub.get_message(timeout=None)  # that it is so
        except BaseException:
            await pubsub.aclose()
            raise
        return RedisPySubscription(pubsub)

    async def disconnect(self) -> None:
        """Close the connections; the client opens others, where Redis is then."""
        if self._client is not None:
            await self._client.aclose()


class RedisPySubscription:
    """See `redis_driver.Subscription`."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub
        self._pong = asyncio.Event()

    async def ping(self) -> None:
        """Return once Redis has answered, which `messages` must be there to hear."""
        self._pong.clear()
        await self._pubsub.ping()
        await self._pong.wait()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield what comes; raise where redis-py has silently connected anew."""
        async for message in self._pubsub.listen():
            if message['type'] == 'message':
                yield message['data']
            elif message['type'] == 'pong':
                self._pong.set()
            else:
                raise ConnectionResetError('subscribed once more')

    async def close(self) -> None:
        """Hear no more, and close the connection."""
        await self._pubsub.aclose()
