"""Concurrent look-ups, answered by one query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any, Generic, TypeVar

from ..concurrency import outlive

T = TypeVar('T')


class Batch(Generic[T]):
    """Runs one query at a time, for all keys that were requested before it started.

    A query never starts before the look-ups that it answers: it sees every change that
    was acknowledged before any of them.

    Args:
        query: returns the values that exist of a set of keys.
    """

    def __init__(self, query: Callable[[Set[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._query = query
        self._turn = asyncio.Lock()
        self._keys: set[str] = set()
        self._next: asyncio.Task[Mapping[str, T]] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: str) -> T | None:
        """Return the value of a key, or None; raises what the query raises.

        The query is a task of its own, so that it continues for the other callers if
        one is cancelled.
        """
        self._keys.add(key)
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        return (await outlive(self._next)).get(key)

    async def stop(self) -> None:
        """Wait for the queries in progress."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self) -> Mapping[str, T]:
        async with self._turn:
            keys, self._keys, self._next = self._keys, set(), None
            return await self._query(keys)
