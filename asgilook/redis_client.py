"""A Redis that can't fail: whatever is wrong with it, the answer is None, and soon.

aioredis has no command timeout, so every call gets one. After a fault of the
connection Redis is left alone for a second, and then one request tries it again: the
others don't wait for a server that is down or frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import aioredis

from .config import redact

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_LOG_SECONDS = 60.0


class Redis:
    """The three commands that a cache needs.

    Args:
        connect: makes an aioredis pool, or None for no Redis.
        address: where it connects to, for the log.
        timeout: seconds that a command may take.
    """

    def __init__(
        self, connect: Callable[[Any], Awaitable[Any]], address: Any, timeout: float
    ) -> None:
        self._connect = connect
        self._address = address
        self._timeout = timeout
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._down = False
        self._retry_at = 0.0
        self._log_at = 0.0

    async def start(self) -> None:
        """Connect; a pool of an earlier start on this event loop is used again."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._pool = loop, None
        await self._call(lambda pool: pool.ping())

    async def stop(self) -> None:
        """Close the connections, and leave the pool to a later start."""
        await self._disconnect()

    async def state(self) -> Literal['up', 'down', 'none']:
        """Ask it whether it works; none says that there is none to ask."""
        if await self._call(lambda pool: pool.ping()):
            return 'up'
        return 'down' if self._down or self._pool is not None else 'none'

    async def get(self, key: str, limit: int) -> bytes | None:
        """Return a value of 1 to `limit` bytes, and None for any other."""
        value = await self._call(lambda pool: pool.getrange(key, 0, limit))
        good = isinstance(value, bytes) and 0 < len(value) <= limit
        return value if good else None

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Keep a value for `ttl` seconds, whatever was there before."""
        await self._call(lambda pool: pool.set(key, value, expire=ttl))

    async def delete(self, *keys: str) -> None:
        """Remove the values of all these keys."""
        await self._call(lambda pool: pool.delete(*keys))

    async def _call(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run a command; None if Redis is down, or this command fails."""
        if self._down:
            if time.monotonic() < self._retry_at:
                return None
            self._retry_at = time.monotonic() + RETRY_SECONDS
        try:
            async with asyncio.timeout(self._timeout):
                if self._pool is None:
                    self._pool = await self._connect(self._address)
                result = None if self._pool is None else await command(self._pool)
        except aioredis.ReplyError as ex:
            self._refused(ex)
            return None
        except Exception as ex:  # aioredis fails in many ways, even AssertionError
            await self._lost(ex)
            return None
        if self._down:
            self._down = False
            log.warning('Redis is back')
        return result

    def _refused(self, ex: Exception) -> None:
        """Redis lives, but not for this command: out of memory, a foreign value."""
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + _LOG_SECONDS
            log.warning('Redis refused a command: %s', ex)

    async def _lost(self, ex: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._down:
            self._down = True
            reason = str(ex) or type(ex).__name__
            address = redact(str(self._address))
            log.warning('no Redis at %s (%s): going on without', address, reason)
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Close the connections: a SET that was given up must not land later."""
        if self._pool is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._timeout):
                    await self._pool.connection.clear()
