"""Messages between workers, through Redis pub/sub.

A lost connection is noticed within seconds, and tried again once a second. The
connections are separate from those of the cache.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..redis_clients.client import Driver, PubSub

log = logging.getLogger(__name__)

CHANNEL = 'asgilook:events'

RETRY_INTERVAL = 1.0
# An idle connection is pinged at this interval.
PING_INTERVAL = 5.0

# Messages that wait to be sent.
MAX_OUTBOX = 1000
# Sent first, to learn whether publishing is permitted; subscribers ignore it.
_PROBE = b''


class Listener(Protocol):
    """The receiver of messages."""

    def on_connect(self) -> None:
        """Messages are delivered from now on."""

    def on_message(self, message: bytes) -> None:
        """Receive the message of any worker, including this one."""

    def on_sent(self) -> None:
        """Redis has all messages so far; also called while there are none."""

    def on_disconnect(self) -> None:
        """Messages are no longer delivered; some may have been lost."""


class Relay:
    """Sends messages to all workers, and passes theirs to a listener.

    Args:
        driver: the library that talks to Redis.
        timeout: time limit of a command, in seconds.
    """

    def __init__(self, driver: Driver, timeout: float) -> None:
        self._driver = driver
        self._timeout = timeout
        self._is_connected = False
        self._is_lost = False
        self._is_rejected = False
        self._outbox: collections.deque[bytes] = collections.deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether messages are delivered."""
        return self._is_connected

    def start(self, listener: Listener) -> None:
        """Connect in the background."""
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run(listener))

    async def stop(self) -> None:
        """Disconnect."""
        self._stopping.set()
        self._wake.set()
        if self._task is not None:
            await self._task

    def send(self, message: bytes) -> bool:
        """Send a message soon; return False if no worker will receive it."""
        if not self._is_connected or len(self._outbox) >= MAX_OUTBOX:
            return False
        self._outbox.append(message)
        self._wake.set()
        return True

    async def _run(self, listener: Listener) -> None:
        """Reconnect after every loss, until the relay stops or if there is no Redis."""
        while not self._stopping.is_set():
            # NOTE(cancellation): each connection has a task of its own, and the
            # CancelledError of that task counts as a loss. A library may leave
            # `Task.cancelling()` above zero, and then `asyncio.timeout` of Python
            # before 3.11.3 raises CancelledError (python/cpython#102780).
            connection = asyncio.create_task(self._connect(listener))
            await asyncio.wait({connection})
            if not connection.cancelled() and connection.exception() is None:
                return  # there is no Redis
            log.debug('connection for events ended: %r', connection)
            await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_INTERVAL):
                await self._stopping.wait()

    async def _connect(self, listener: Listener) -> None:
        """Run one connection until it is lost, which raises; return without a Redis."""
        try:
            async with asyncio.timeout(self._timeout):
                if not await self._driver.connect():
                    return
                pubsub = await self._driver.subscribe(CHANNEL)
            await self._pass_on(pubsub, listener)
        except self._driver.reply_errors as ex:
            if self._is_forbidden(ex):
                self._log_rejection(ex)
            raise
        finally:
            await self._close(self._driver.disconnect)

    async def _pass_on(self, pubsub: PubSub, listener: Listener) -> None:
        """Send and receive until the connection is lost or closed, which raises."""
        tasks = [
            asyncio.create_task(self._send(pubsub, listener)),
            asyncio.create_task(self._receive(pubsub, listener)),
            asyncio.create_task(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # NOTE(order): in Python 3.11 `asyncio.wait_for`, and so a library, may miss
            # a cancellation; a closed connection ends these tasks in any case.
            await self._close(pubsub.close)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            errors = (each for each in results if isinstance(each, Exception))
            error = next(errors, ConnectionAbortedError('cancelled'))
            self._set_disconnected(listener, error)
        raise error

    async def _close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close a connection within the timeout, whatever the library raises."""
        task = asyncio.create_task(close())
        await asyncio.wait({task}, timeout=self._timeout)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _set_connected(self, listener: Listener) -> None:
        if self._stopping.is_set():
            return
        if self._is_rejected:
            log.warning('Redis accepts pub/sub: events are shared between workers')
        elif self._is_lost:
            log.warning('Redis is available again: events are shared between workers')
        self._is_lost = self._is_rejected = False
        self._is_connected = True
        listener.on_connect()

    def _is_forbidden(self, error: Exception) -> bool:
        """Return whether the ACL of Redis excludes this user."""
        is_reply = isinstance(error, self._driver.reply_errors)
        return is_reply and 'permission' in str(error)

    def _log_rejection(self, error: Exception) -> None:
        """Log the first of several rejections; `_set_connected` logs their end."""
        if not self._is_rejected:
            self._is_rejected = True
            log.warning(
                'Redis rejected pub/sub (%s): events stay within their worker', error
            )

    def _set_disconnected(self, listener: Listener, error: Exception) -> None:
        if not self._is_connected:
            return
        self._is_connected = False
        self._outbox.clear()
        # A rejection is logged by `_connect`.
        if not self._is_forbidden(error) and not self._stopping.is_set():
            self._is_lost = True
            reason = str(error) or type(error).__name__
            log.warning(
                'Redis unavailable (%s): events stay within their worker', reason
            )
        listener.on_disconnect()

    async def _receive(self, pubsub: PubSub, listener: Listener) -> None:
        async for message in pubsub.messages():
            if message != _PROBE:
                listener.on_message(message)
        raise ConnectionResetError('connection closed')

    async def _send(self, pubsub: PubSub, listener: Listener) -> None:
        await self._publish(_PROBE)
        self._set_connected(listener)
        # NOTE(cancellation): a library may have missed that this task was cancelled.
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_INTERVAL):
                    await self._wake.wait()
            if self._stopping.is_set():
                return
            self._wake.clear()
            async with asyncio.timeout(self._timeout):
                await pubsub.ping()
            while self._outbox:
                await self._publish(self._outbox[0])
                self._outbox.popleft()
            listener.on_sent()

    async def _publish(self, message: bytes) -> None:
        async with asyncio.timeout(self._timeout):
            await self._driver.publish(CHANNEL, message)
