"""Choice of the library: aioredis, or redis-py for what aioredis does not support.

aioredis 1.3.1 is the default, and the faster one. It supports neither Cluster nor ACL
users, and its Sentinel client does not run on Python 3.11.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ..backend_urls import has_many_nodes
from ..config import Config, create_redis_pool, setting_error
from .aioredis import AioredisDriver
from .client import Driver


def create_driver(config: Config) -> Driver:
    """Create a driver, which does not connect yet.

    Raises `ConfigError` if redis-py is needed but not installed.
    """
    address = config.redis_host
    if config.redis_from_url is not None:
        # One client for all event loops, as in the tutorial: fakeredis keeps its data
        # in the client.
        create_client = functools.cache(config.redis_from_url)
        return _create_redispy(config, create_client)
    if config.create_redis_pool is create_redis_pool and _needs_redispy(address):
        return _create_redispy(config)
    return AioredisDriver(create_pool=config.create_redis_pool, address=address)


def _needs_redispy(url: str | None) -> bool:
    return url is not None and (has_many_nodes(url) or bool(urlsplit(url).username))


def _create_redispy(
    config: Config, create_client: Callable[[str], Any] | None = None
) -> Driver:
    try:
        from . import redispy
    except ModuleNotFoundError:
        problem = "needs redis: run pip install '.[redis]' in the project's folder"
        raise setting_error(config, 'redis_host', problem) from None
    return redispy.RedisPyDriver(
        create_client=create_client
        or functools.partial(redispy.create_client, timeout=config.redis_timeout),
        address=config.redis_host,
    )
