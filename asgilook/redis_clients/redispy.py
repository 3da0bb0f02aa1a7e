"""Redis through redis-py: what the framework's tutorial uses, Sentinel, Cluster, ACL.

A command has a connection to itself, so their number is bounded here. One that is
given up closes its connection: its answer must not be read as that of the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import redis.exceptions
from redis.asyncio import Redis, RedisCluster, Sentinel, from_url
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from ..backend_urls import Servers, is_many, parse_servers, redact

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


def create_client(url: str, timeout: float) -> Any:
    """Make a client that connects at its first command.

    Args:
        url: of any kind that `config.redis_host` may have.
        timeout: seconds that the caller waits for a command.
    """
    if not is_many(url):
        return from_url(url, **_options(None))
    servers = parse_servers(url)
    share = timeout / (len(servers.nodes) + 1)
    return (_behind_sentinels if servers.kind == 'sentinel' else _cluster)(
        servers, share
    )


def _options(timeout: float | None) -> dict[str, Any]:
    return {
        'protocol': 2,  # RESP 3 brings a handshake and notices that nobody reads
        'retry': Retry(NoBackoff(), 0),
        'socket_timeout': timeout,
        'socket_connect_timeout': timeout,
    }


def _behind_sentinels(servers: Servers, share: float) -> Any:
    make: Callable[..., Any] = Sentinel  # has no types
    sentinel = make(servers.nodes, sentinel_kwargs=_options(share))
    return sentinel.master_for(
        servers.service,
        connection_pool_class=_MasterPool,
        username=servers.username,
        password=servers.password,
        db=servers.db,
        **_options(None),
    )


class _MasterPool(SentinelConnectionPool):
    """Connections to the master; when they are closed, so are those to Sentinels."""

    async def aclose(self) -> None:
        sentinels: list[Redis] = self.sentinel_manager.sentinels
        await asyncio.gather(super().aclose(), *(each.aclose() for each in sentinels))


class _Cluster(RedisCluster):
    """A client that closes all of its connections, also those after a fault.

    With one connection lost, redis-py takes the others for closed as well.
    """

    async def aclose(self) -> None:
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose('startup_nodes')


def _cluster(servers: Servers, share: float) -> Any:
    return _Cluster(
        startup_nodes=[ClusterNode(host, port) for host, port in servers.nodes],
        username=servers.username,
        password=servers.password,
        **_options(share),
    )
