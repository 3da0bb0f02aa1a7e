"""States of the service's dependencies, each determined within a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from ..errors import AsgilookError

T = TypeVar('T')
ComponentState = Literal['up', 'down', 'none']

# How long a component may take to respond before it counts as down, in seconds.
PROBE_TIMEOUT = 0.5

# Counting images may use this share of a database's time.
COUNT_SHARE = 0.01


class Probes:
    """Probes of storage, index and Redis.

    Args:
        is_storage_usable: returns whether images can be read and stored; may block.
        free_bytes: returns the free bytes of the storage folder; may block.
        count_images: returns the number of images.
        database_state: state of the database; `none` if there is no database.
        redis_state: state of Redis; `none` if there is no Redis.
    """

    def __init__(
        self,
        *,
        is_storage_usable: Callable[[], bool],
        free_bytes: Callable[[], int],
        count_images: Callable[[], Awaitable[int]],
        database_state: Callable[[], Awaitable[ComponentState]],
        redis_state: Callable[[], Awaitable[ComponentState]],
    ) -> None:
        self._is_storage_usable = is_storage_usable
        self._free_bytes = free_bytes
        self._count_images = count_images
        self._database_state = database_state
        self._redis_state = redis_state
        self._count: int | None = None
        self._next_count = 0.0
        # A separate thread waits for no upload, and a disk that hangs blocks only it.
        self._thread = ThreadPoolExecutor(1, 'asgilook-probes')

    async def components(self) -> dict[str, ComponentState]:
        """Return the state of each component, without a database that is `none`."""
        storage, database, redis = await asyncio.gather(
            _within_timeout(self._storage_state()),
            _within_timeout(self._database_state()),
            _within_timeout(self._redis_state()),
        )
        components: dict[str, ComponentState] = {'storage': storage or 'down'}
        if database != 'none':
            components['database'] = database or 'down'
        return {**components, 'redis': redis or 'down'}

    async def free_bytes(self) -> int | None:
        """Return the free bytes of the storage folder; None if that is unknown."""
        try:
            return await _within_timeout(self._in_thread(self._free_bytes))
        except OSError:
            return None

    async def image_count(self) -> int | None:
        """Return the number of images; None if that is unknown.

        After a count that took long, the number is kept for 100 times as long.
        """
        start = time.monotonic()
        if start >= self._next_count:
            try:
                self._count = await _within_timeout(self._count_images())
            except AsgilookError:
                self._count = None
            end = time.monotonic()
            self._next_count = end + (end - start) / COUNT_SHARE
        return self._count

    async def _storage_state(self) -> ComponentState:
        return 'up' if await self._in_thread(self._is_storage_usable) else 'down'

    async def _in_thread(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function)


async def _within_timeout(answer: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            return await answer
    except TimeoutError:
        return None
