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
from typing import Any, Protocol

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
        connect: makes an aioredis pool, or None for no Redis.
        address: where it connects to.
        timeout: seconds that a command may take.
        listener: hears what comes through.
    """

    def __init__(
        self,
        connect: Callable[[Any], Awaitable[Any]],
        address: Any,
        timeout: float,
        listener: Listener,
    ) -> None:
        self._connect = connect
        self._address = address
        self._timeout = timeout
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Any = None
        self._connection: Any = None
        self._outbox: collections.deque[bytes] = collections.deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to join; a pool of an earlier start on this loop is used again."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._pool = loop, None
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._task = loop.create_task(self._run())

    async def stop(self) -> None:
        """Leave, and close the connections."""
        self._stopping.set()
        self._hang_up()
        if self._task is not None:
            await self._task

    def send(self, message: bytes) -> bool:
        """Send a message soon; False where it can't be, so that nobody will get it."""
        if self._connection is None or len(self._outbox) >= OUTBOX:
            return False
        self._outbox.append(message)
        self._wake.set()
        return True

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not await self._connected():
                    return
                await self._session(self._pool.connection)
            except Exception as ex:  # aioredis fails in many ways
                log.debug('no Redis for events: %r', ex)
            await self._pause()

    async def _connected(self) -> bool:
        if self._pool is None:
            async with asyncio.timeout(self._timeout):
                self._pool = await self._connect(self._address)
        return self._pool is not None

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._stopping.wait()

    async def _session(self, pool: Any) -> None:
        """Pass messages on until the connection is lost; raises for any reason."""
        async with asyncio.timeout(self._timeout):
            connection = await pool.acquire()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.execute_pubsub('SUBSCRIBE', CHANNEL)
                await pool.execute('PUBLISH', CHANNEL, _HELLO)
            self._join(connection)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(connection))
                group.create_task(self._send(connection, pool))
        finally:
            self._leave()
            connection.close()
            pool.release(connection)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._timeout):
                    await connection.wait_closed()
                    await pool.clear()

    def _join(self, connection: Any) -> None:
        if self._stopping.is_set():
            raise ConnectionAbortedError('stopping')
        self._connection = connection
        log.debug('events go through Redis')
        self._listener.joined()

    def _leave(self) -> None:
        if self._connection is None:
            return
        self._connection = None
        self._outbox.clear()
        if not self._stopping.is_set():
            log.warning('lost Redis: events stay within their worker')
        self._listener.left()

    async def _receive(self, connection: Any) -> None:
        channel = connection.pubsub_channels[CHANNEL]
        async for message in channel.iter():
            self._listener.received(message)
        raise ConnectionResetError('Redis hung up')

    async def _send(self, connection: Any, pool: Any) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            async with asyncio.timeout(self._timeout):
                await connection.execute('PING')
            while self._outbox:
                async with asyncio.timeout(self._timeout):
                    await pool.execute('PUBLISH', CHANNEL, self._outbox[0])
                self._outbox.popleft()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
