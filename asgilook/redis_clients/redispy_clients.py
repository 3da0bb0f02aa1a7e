"""Clients of redis-py for each kind of URL, without its own retries and timeouts.

Whoever calls a client has one deadline for all that a command takes. Only where it has
several servers to ask, one that is silent may take no more than its share of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis, RedisCluster, Sentinel, from_url
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from ..backend_urls import Servers, is_many, parse


def create_client(url: str, timeout: float) -> Any:
    """Make a client that connects at its first command.

    Args:
        url: of any kind that `config.redis_host` may have.
        timeout: seconds that the caller waits for a command.
    """
    if not is_many(url):
        return from_url(url, **_options(None))
    servers = parse(url)
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
