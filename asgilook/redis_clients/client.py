"""Redis client that reports every failure as a miss, within a deadline.

After a connection failure a circuit breaker keeps requests away from Redis for a
second, so that they do not wait for a server that is stopped or frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Literal, Protocol

from ..concurrency import CircuitBreaker, in_task

log = logging.getLogger(__name__)

RETRY_INTERVAL = 1.0
LOG_INTERVAL = 60.0


class PubSub(Protocol):
    """A connection that is subscribed to a channel."""

    async def ping(self) -> None:
        """Return once Redis has replied on this connection."""

    def messages(self) -> AsyncIterator[bytes]:
        """Yield messages; end or raise as soon as some may have been lost."""

    async def close(self) -> None:
        """Unsubscribe and close the connection."""


class Driver(Protocol):
    """A Redis library, adapted; the contract tests are in `test_drivers.py`.

    The library's client is created by `connect`, and again on each event loop. Every
    method may block without limit and raise any exception; one of `reply_errors` means
    that Redis replied, but did not run the command. `address` has no secrets in it.
    """

    address: str
    reply_errors: tuple[type[Exception], ...]

    async def connect(self) -> bool:
        """Create the client, unless there is one; return False without a Redis."""

    async def ping(self) -> Any:
        """Return any reply."""

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value up to and including index `end`."""

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store a value for `ttl` seconds."""

    async def delete(self, *keys: str) -> None:
        """Remove values."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all subscribers of a channel."""

    async def subscribe(self, channel: str) -> PubSub:
        """Return once messages of this channel are received."""

    async def disconnect(self) -> None:
        """Close the connections; the next command opens new ones."""


class NoReply(Exception):
    """Redis has not run a command."""


class NotConfigured(NoReply):
    """The settings name no Redis."""


class Unreachable(NoReply):
    """Redis can't be reached or does not reply in time."""


class Rejected(NoReply):
    """Redis replied with an error: out of memory, a value of another type."""


class Redis:
    """The three commands that a cache needs; they never raise.

    Args:
        driver: the library that talks to Redis.
        timeout: time limit of a command, in seconds.
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self,
        driver: Driver,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._driver = driver
        self._timeout = timeout
        self._clock = clock
        self._breaker = CircuitBreaker(RETRY_INTERVAL, clock=clock)
        self._log_at = -float('inf')

    async def start(self) -> None:
        """Connect; a failure is logged."""
        await self.state()

    async def stop(self) -> None:
        """Close the connections; a later start opens new ones."""
        await self._disconnect()

    async def state(self) -> Literal['up', 'down', 'none']:
        """Ping Redis; `none` means that none is configured."""
        try:
            await self._call(self._driver.ping)
        except NotConfigured:
            return 'none'
        except NoReply:
            return 'down'
        return 'up'

    async def get(self, key: str, limit: int) -> bytes | None:
        """Return a value of 1 to `limit` bytes; None for any other, or no reply."""
        try:
            value = await self._call(partial(self._driver.getrange, key, limit))
        except NoReply:
            return None
        return value if isinstance(value, bytes) and 0 < len(value) <= limit else None

    async def set(self, key: str, value: bytes, ttl: int) -> bool:
        """Store a value for `ttl` seconds; return whether Redis has it now."""
        try:
            await self._call(partial(self._driver.set, key, value, ttl))
        except NoReply:
            return False
        return True

    async def delete(self, *keys: str) -> None:
        """Remove values."""
        with contextlib.suppress(NoReply):
            await self._call(partial(self._driver.delete, *keys))

    async def _call(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Return the reply to a command; raises `NoReply`."""
        await in_task()
        token = self._breaker.enter()
        if token is None:
            raise Unreachable
        try:
            async with asyncio.timeout(self._timeout):
                is_configured = await self._driver.connect()
                reply = await command() if is_configured else None
        except self._driver.reply_errors as ex:
            self._log_rejection(ex)
            raise Rejected from ex
        except Exception as ex:  # libraries raise many types, even AssertionError
            await self._fail(token, ex)
            raise Unreachable from ex
        if self._breaker.succeed(token):
            log.warning('Redis is available again')
        if not is_configured:
            raise NotConfigured
        return reply

    def _log_rejection(self, ex: Exception) -> None:
        if self._clock() >= self._log_at:
            self._log_at = self._clock() + LOG_INTERVAL
            log.warning('Redis rejected a command: %s', ex)

    async def _fail(self, token: int, ex: Exception) -> None:
        was_failing = self._breaker.failing
        if not self._breaker.fail(token):
            return
        if not was_failing:
            log.warning(
                'Redis unavailable at %s (%s): continuing without it',
                self._driver.address,
                str(ex) or type(ex).__name__,
            )
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Close the connections, so that a SET that timed out can't run later."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await self._driver.disconnect()
