"""Redis through redis-py, which supports Sentinel, Cluster and ACL users.

Each running command occupies a connection, so their number is bounded here. A command
that times out closes its connection: the late reply must not be read as the next one.
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

from ..backend_urls import Nodes, has_many_nodes, parse_nodes, redact

# Running commands of a process; redis-py's pools raise at 100 connections.
MAX_CONNECTIONS = 64


class RedisPyDriver:
    """See `client.Driver`.

    Args:
        create_client: creates a client of `redis.asyncio`.
        address: argument of `create_client`; None for no Redis.
    """

    reply_errors: tuple[type[Exception], ...] = (redis.exceptions.ResponseError,)

    def __init__(
        self, *, create_client: Callable[[str], Any], address: str | None
    ) -> None:
        self.address = redact(str(address))
        self._create_client = create_client
        self._address = address
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def connect(self) -> bool:
        """Create a client, or reuse the one of this event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._client = loop, None
            self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        if self._client is None and self._address is not None:
            self._client = self._create_client(self._address)
        return self._client is not None

    async def ping(self) -> Any:
        """Return any reply."""
        async with self._free:
            return await self._client.ping()

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value up to and including index `end`."""
        async with self._free:
            return await self._client.getrange(key, 0, end)

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store a value for `ttl` seconds."""
        async with self._free:
            await self._client.set(key, value, ex=ttl)

    async def delete(self, *keys: str) -> None:
        """Remove values; in a Cluster, of any slots."""
        async with self._free:
            await self._client.delete(*keys)

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all subscribers of a channel, on any node of a Cluster."""
        async with self._free:
            await self._client.publish(channel, message)

    async def subscribe(self, channel: str) -> RedisPyPubSub:
        """Subscribe on a connection taken out of the pool."""
        # NOTE(redis-py): a Cluster's pubsub() needs its nodes, which it has not yet.
        await self._client.initialize()
        pubsub = self._client.pubsub()
        try:
            await pubsub.subscribe(channel)
            await pubsub.get_message(timeout=None)  # the confirmation
        except BaseException:
            await pubsub.aclose()
            raise
        return RedisPyPubSub(pubsub)

    async def disconnect(self) -> None:
        """Close the connections; the client opens new ones, to the current master."""
        if self._client is not None:
            await self._client.aclose()


class RedisPyPubSub:
    """See `client.PubSub`."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub
        self._pong = asyncio.Event()

    async def ping(self) -> None:
        """Return once `messages`, which must be running, has received the reply."""
        self._pong.clear()
        await self._pubsub.ping()
        await self._pong.wait()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages; raise once redis-py has silently reconnected."""
        async for message in self._pubsub.listen():
            if message['type'] == 'message':
                yield message['data']
            elif message['type'] == 'pong':
                self._pong.set()
            else:
                raise ConnectionResetError('reconnected: messages may be lost')

    async def close(self) -> None:
        """Unsubscribe and close the connection."""
        await self._pubsub.aclose()


def create_client(url: str, timeout: float) -> Any:
    """Create a client that connects at its first command.

    Args:
        url: any valid `redis_host`.
        timeout: time limit of a command, in seconds: each node gets a fraction of it,
            so that the next one can be tried.
    """
    if not has_many_nodes(url):
        return from_url(url, **_options(None))
    nodes = parse_nodes(url)
    node_timeout = timeout / (len(nodes.addresses) + 1)
    if nodes.kind == 'sentinel':
        return _behind_sentinels(nodes, node_timeout)
    return _cluster(nodes, node_timeout)


def _options(timeout: float | None) -> dict[str, Any]:
    return {
        'protocol': 2,  # RESP 3 adds a handshake and push messages, both unused
        'retry': Retry(NoBackoff(), 0),
        'socket_timeout': timeout,
        'socket_connect_timeout': timeout,
    }


def _behind_sentinels(nodes: Nodes, node_timeout: float) -> Any:
    create: Callable[..., Any] = Sentinel  # has no types
    sentinel = create(nodes.addresses, sentinel_kwargs=_options(node_timeout))
    return sentinel.master_for(
        nodes.service,
        connection_pool_class=_MasterPool,
        username=nodes.username,
        password=nodes.password,
        db=nodes.db,
        **_options(None),
    )


class _MasterPool(SentinelConnectionPool):
    """Connections to the master; `aclose` closes those to Sentinels, too."""

    async def aclose(self) -> None:
        sentinels: list[Redis] = self.sentinel_manager.sentinels
        await asyncio.gather(super().aclose(), *(each.aclose() for each in sentinels))


class _Cluster(RedisCluster):
    """A client that closes all of its connections.

    After the loss of one connection, redis-py no longer closes the others.
    """

    async def aclose(self) -> None:
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose('startup_nodes')


def _cluster(nodes: Nodes, node_timeout: float) -> Any:
    return _Cluster(
        startup_nodes=[ClusterNode(host, port) for host, port in nodes.addresses],
        username=nodes.username,
        password=nodes.password,
        **_options(node_timeout),
    )
