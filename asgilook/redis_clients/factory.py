"""Which library talks to Redis: aioredis, or redis-py where aioredis can't.

aioredis 1.3.1 is the default, and the faster one. It knows no Cluster and no ACL users,
and its Sentinel does not run on Python 3.11.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ..backend_urls import is_many
from ..config import Config, create_redis_pool, refusal
from .aioredis import AioredisDriver
from .client import Driver


def create_driver(config: Config) -> Driver:
    """Make a driver, which does not connect yet.

    Raises `ConfigError` where redis-py is needed, but is not installed.
    """
    address = config.redis_host
    if config.redis_from_url is not None:
        # One client for ever, as in the tutorial: there may be a whole server in it.
        return _redis_py(functools.cache(config.redis_from_url), config)
    if config.create_redis_pool is create_redis_pool and _is_beyond_aioredis(address):
        return _redis_py(None, config)
    return AioredisDriver(config.create_redis_pool, address)


def _is_beyond_aioredis(url: str | None) -> bool:
    return url is not None and (is_many(url) or bool(urlsplit(url).username))


def _redis_py(create_client: Callable[[str], Any] | None, config: Config) -> Driver:
    try:
        from . import redispy
    except ModuleNotFoundError:
        problem = 'needs redis: pip install asgilook[redis]'
        raise refusal(config, 'redis_host', problem) from None
    if create_client is None:
        create_client = functools.partial(
            redispy.create_client, timeout=config.redis_timeout
        )
    return redispy.RedisPyDriver(create_client, config.redis_host)
