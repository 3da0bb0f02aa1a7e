"""Messages between the workers, through Redis pub/sub, for as long as it is there.

Redis is a convenience: a worker that has lost it knows so within seconds, and tries
to join again once a second. The connections are its own, apart from the cache's.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..redis_clients.client import Driver, Subscription

log = logging.getLogger(__name__)

CHANNEL = 'asgilook:events'

RETRY_SECONDS = 1.0
# A connection that says nothing is asked whether it still lives.
PING_SECONDS = 5.0

# Messages that wait to be sent.
OUTBOX = 1000
# Sent to find out whether that is allowed; means nothing to listeners.
_HELLO = b''


class Listener(Protocol):
    """Who hears what comes through."""

    def joined(self) -> None:
        """From now on messages come through."""

    def received(self, message: bytes) -> None:
        """Take a message of any worker, this one among them."""

    def left(self) -> None:
        """Nothing comes through any more; messages may have been lost."""


class Relay:
    """Sends messages to all workers, and gives theirs to a listener.

    Args:
        driver: talks to Redis.
        timeout: seconds that a command may take.
        listener: hears what comes through.
    """

    def __init__(self, driver: Driver, timeout: float, listener: Listener) -> None:
        self._driver = driver
        self._timeout = timeout
        self._listener = listener
        self._is_joined = False
        self._outbox: collections.deque[bytes] = collections.deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to join."""
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Leave, and close the connections."""
        self._stopping.set()
        self._wake.set()
        if self._task is not None:
            await self._task

    def send(self, message: bytes) -> bool:
        """Send a message soon; False where it can't be, so that nobody will get it."""
        if not self._is_joined or len(self._outbox) >= OUTBOX:
            return False
        self._outbox.append(message)
        self._wake.set()
        return True

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._timeout):
                    if not await self._driver.connect():
                        return
                    subscription = await self._driver.subscribe(CHANNEL)
                await self._session(subscription)
            except Exception as ex:  # clients fail in many ways
                log.debug('no Redis for events: %r', ex)
            await self._soon(self._driver.disconnect)
            await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._stopping.wait()

    async def _session(self, subscription: Subscription) -> None:
        """Pass messages on until the connection is lost; raises for any reason."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._driver.publish(CHANNEL, _HELLO)
            self._join()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(subscription))
                group.create_task(self._send(subscription))
                group.create_task(self._end(subscription))
        finally:
            self._leave()
            await self._soon(subscription.close)

    async def _soon(self, close: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await close()

    def _join(self) -> None:
        if self._stopping.is_set():
            raise ConnectionAbortedError('stopping')
        self._is_joined = True
        log.debug('events go through Redis')
        self._listener.joined()

    def _leave(self) -> None:
        if not self._is_joined:
            return
        self._is_joined = False
        self._outbox.clear()
        if not self._stopping.is_set():
            log.warning('lost Redis: events stay within their worker')
        self._listener.left()

    async def _receive(self, subscription: Subscription) -> None:
        async for message in subscription.messages():
            self._listener.received(message)
        raise ConnectionResetError('Redis hung up')

    async def _send(self, subscription: Subscription) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            async with asyncio.timeout(self._timeout):
                await subscription.ping()
            while self._outbox:
                async with asyncio.timeout(self._timeout):
                    await self._driver.publish(CHANNEL, self._outbox[0])
                self._outbox.popleft()

    async def _end(self, subscription: Subscription) -> None:
        await self._stopping.wait()
        # In Python 3.11 wait_for(), and so a client, may miss that it is cancelled.
        await self._soon(subscription.close)
        raise ConnectionAbortedError('stopping')
