"""The event stream of one client: its queue, and the times of its writes."""

from __future__ import annotations

import asyncio
import collections
import itertools
import math
from collections.abc import Callable
from typing import Self

from falcon.asgi import SSEvent
from falcon.media import BaseHandler

# Events that wait for a slow client, before its stream is closed.
MAX_QUEUE = 250

# Falcon notices that a client has disconnected only after a block, so an idle stream
# yields one at this interval. Most are empty; every seventh one is a comment, which
# shows proxies and clients that the connection is alive.
POLL_INTERVAL = 2.0
POLLS_PER_HEARTBEAT = 7

# The delay of a stream within the spread is a multiple of the golden ratio, modulo 1:
# these are evenly distributed, whatever their number.
_GOLDEN_RATIO = 0.6180339887
_numbers = itertools.count()


class Block(SSEvent):
    """Serialized events."""

    __slots__ = ('_bytes',)

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._bytes = data

    def serialize(self, handler: BaseHandler | None = None) -> bytes:
        """Return the bytes."""
        return self._bytes


_EMPTY = Block(b'')
_HEARTBEAT = Block(b':\n\n')


class EventStream:
    """An asynchronous iterator of blocks, as Falcon expects it in `resp.sse`.

    Falcon drops it once the client has disconnected; there is no other reference to it.

    Args:
        greeting: the first block of the stream.
        spread: returns the seconds over which the writes of all streams are spread,
            which is also the minimum time between two writes of a stream.
    """

    def __init__(self, greeting: bytes, *, spread: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue = collections.deque([greeting])
        self._spread = spread
        self._share = next(_numbers) * _GOLDEN_RATIO % 1
        self._written_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_due = True
        self._is_ended = False
        self._polls = 0

    def put(self, block: bytes) -> bool:
        """Queue an event; end the stream and return False if the queue is full."""
        if len(self._queue) >= MAX_QUEUE:
            self.end()
            return False
        self._queue.append(block)
        if not self._is_due and self._timer is None:
            self._timer = self._loop.call_at(self._next_write(), self._set_due)
        return True

    def end(self) -> None:
        """End the stream and drop its queue."""
        self._is_ended = True
        self._queue.clear()
        self._set_due()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Block:
        if not self._is_due and not await self._wait():
            self._polls += 1
            return _EMPTY if self._polls % POLLS_PER_HEARTBEAT else _HEARTBEAT
        if self._is_ended:
            raise StopAsyncIteration
        self._is_due = False
        self._written_at = self._loop.time()
        data = b''.join(self._queue)
        self._queue.clear()
        return Block(data)

    def _next_write(self) -> float:
        """Return the loop's time of the next write."""
        spread = self._spread()
        now = self._loop.time()
        return max(now + self._share * spread, self._written_at + spread)

    def _set_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due = True
        if self._waiter is not None:
            _resolve(self._waiter)

    async def _wait(self) -> bool:
        """Wait until a write is due, or for the poll interval."""
        self._waiter = self._loop.create_future()
        poll = self._loop.call_later(POLL_INTERVAL, _resolve, self._waiter)
        try:
            await self._waiter
        finally:
            poll.cancel()
            self._waiter = None
        return self._is_due


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
