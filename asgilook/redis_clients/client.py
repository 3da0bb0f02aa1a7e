"""A Redis that can't fail: whatever is wrong with it, the answer is None, and soon.

Every call has a deadline, whatever its library does. After a fault of the
connection Redis is left alone for a second, and then one request tries it again: the
others don't wait for a server that is down or frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, Protocol

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_LOG_SECONDS = 60.0


class Subscription(Protocol):
    """A connection that hears a channel."""

    async def ping(self) -> None:
        """Return once Redis has answered on this very connection."""

    def messages(self) -> AsyncIterator[bytes]:
        """Yield what comes; end, or raise anything, where some may have been lost."""

    async def close(self) -> None:
        """Hear no more, and close the connection."""


class Driver(Protocol):
    """A client that is made when it is first needed, and anew on each event loop.

    Everything may take for ever, and may raise anything; a `refusals` error says that
    Redis lives, but not for this command. `address` is for the log.
    """

    address: str
    refusals: tuple[type[Exception], ...]

    async def connect(self) -> bool:
        """Make the client, where there is none yet; False if there is no Redis."""

    async def ping(self) -> Any:
        """Ask for any answer."""

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value from the first to number `end`."""

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Keep a value for `ttl` seconds."""

    async def delete(self, *keys: str) -> None:
        """Remove the values of all these keys."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all who hear a channel."""

    async def subscribe(self, channel: str) -> Subscription:
        """Hear a channel, from when this returns."""

    async def disconnect(self) -> None:
        """Close the connections; the next command opens others."""


class Redis:
    """The three commands that a cache needs.

    Args:
        driver: talks to Redis.
        timeout: seconds that a command may take.
    """

    def __init__(self, driver: Driver, timeout: float) -> None:
        self._driver = driver
        self._timeout = timeout
        self._none = False
        self._down = False
        # Of the connections: many commands may fail by one fault, which counts once.
        self._generation = 0
        self._retry_at = 0.0
        self._log_at = 0.0

    async def start(self) -> None:
        """Connect, and say so in the log if that can't be."""
        await self._call(self._driver.ping)

    async def stop(self) -> None:
        """Close the connections, and leave the pool to a later start."""
        await self._disconnect()

    async def state(self) -> Literal['up', 'down', 'none']:
        """Ask it whether it works; none says that there is none to ask."""
        if await self._call(self._driver.ping):
            return 'up'
        return 'none' if self._none else 'down'

    async def get(self, key: str, limit: int) -> bytes | None:
        """Return a value of 1 to `limit` bytes, and None for any other."""
        value = await self._call(lambda: self._driver.getrange(key, limit))
        good = isinstance(value, bytes) and 0 < len(value) <= limit
        return value if good else None

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Keep a value for `ttl` seconds, whatever was there before."""
        await self._call(lambda: self._driver.set(key, value, ttl))

    async def delete(self, *keys: str) -> None:
        """Remove the values of all these keys."""
        await self._call(lambda: self._driver.delete(*keys))

    async def _call(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Run a command; None if Redis is down, or this command fails."""
        if self._down:
            if time.monotonic() < self._retry_at:
                return None
            self._retry_at = time.monotonic() + RETRY_SECONDS
        generation = self._generation
        try:
            async with asyncio.timeout(self._timeout):
                self._none = not await self._driver.connect()
                result = None if self._none else await command()
        except self._driver.refusals as ex:
            self._refused(ex)
            return None
        except Exception as ex:  # clients fail in many ways, even AssertionError
            if generation == self._generation:
                await self._lost(ex)
            return None
        if self._down and generation == self._generation:
            self._down = False
            log.warning('Redis is back')
        return result

    def _refused(self, ex: Exception) -> None:
        """Redis lives, but not for this command: out of memory, a foreign value."""
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + _LOG_SECONDS
            log.warning('Redis refused a command: %s', ex)

    async def _lost(self, ex: Exception) -> None:
        self._generation += 1
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._down:
            self._down = True
            reason = str(ex) or type(ex).__name__
            at = self._driver.address
            log.warning('no Redis at %s (%s): going on without', at, reason)
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Close the connections: a SET that was given up must not land later."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await self._driver.disconnect()
