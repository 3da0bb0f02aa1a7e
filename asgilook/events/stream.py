"""One client's event stream: what waits for it, and when it is written."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import math
from collections.abc import Callable
from typing import Any, Self

from falcon.asgi import SSEvent
from falcon.media import BaseHandler

# Events that wait for a client that reads slowly, before it is dropped.
QUEUE = 250

# How often a stream looks whether its client is still there, and every how many of
# these it says that it is there itself.
LOOK_SECONDS = 2.0
HEARTBEAT = 7

# Where streams of the same moment begin to write differs by this part of the spread:
# multiples of the golden ratio fill it evenly, however many they are.
_GOLDEN = 0.6180339887
_numbers = itertools.count()


class Block(SSEvent):
    """Bytes of a stream, ready to be sent."""

    __slots__ = ('_bytes',)

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._bytes = data

    def serialize(self, handler: BaseHandler | None = None) -> bytes:
        """Return the bytes."""
        return self._bytes


_NOTHING = Block(b'')
_HEARTBEAT = Block(b':\n\n')


def encode(event_id: str, name: str, data: Any) -> bytes:
    """Write an event, with its data as JSON in one line."""
    return f'event: {name}\nid: {event_id}\ndata: {json.dumps(data)}\n\n'.encode()


class Subscription:
    """An asynchronous iterator of blocks, as Falcon wants it for `resp.sse`.

    Falcon sees that a client is gone only after a block: so there is one every few
    seconds, which is mostly empty. It then forgets this object, and nobody else keeps
    it: that frees the queue.

    Args:
        greeting: what is written first.
        spread: tells over how many seconds all streams spread their writes, and how
            many there are at least between two of one stream.
    """

    def __init__(self, greeting: bytes, spread: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue = collections.deque([greeting])
        self._spread = spread
        self._share = next(_numbers) * _GOLDEN % 1
        self._written_at = -math.inf
        self._wake_at: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._due = True
        self._ended = False
        self._looks = 0

    def put(self, block: bytes) -> bool:
        """Queue an event; False, and the stream ends, where too many wait already."""
        if len(self._queue) >= QUEUE:
            self.end()
            return False
        self._queue.append(block)
        if not self._due and self._wake_at is None:
            self._wake_at = self._loop.call_at(self._turn(), self._wake)
        return True

    def end(self) -> None:
        """End the stream; what still waits for the client is dropped."""
        self._ended = True
        self._queue.clear()
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Block:
        if not self._due and not await self._wait():
            self._looks += 1
            return _NOTHING if self._looks % HEARTBEAT else _HEARTBEAT
        if self._ended:
            raise StopAsyncIteration
        self._due = False
        self._written_at = self._loop.time()
        data = b''.join(self._queue)
        self._queue.clear()
        return Block(data)

    def _turn(self) -> float:
        """Say when to write: not all at once, and none too often."""
        spread = self._spread()
        now = self._loop.time()
        return max(now + self._share * spread, self._written_at + spread)

    def _wake(self) -> None:
        if self._wake_at is not None:
            self._wake_at.cancel()
            self._wake_at = None
        self._due = True
        if self._waiter is not None:
            _resolve(self._waiter)

    async def _wait(self) -> bool:
        """Wait until there is something to write, or until it is time to look."""
        self._waiter = self._loop.create_future()
        look = self._loop.call_later(LOOK_SECONDS, _resolve, self._waiter)
        try:
            await self._waiter
        finally:
            look.cancel()
            self._waiter = None
        return self._due


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
