"""Look-ups that come in while another is under way, answered by one query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any, Generic, TypeVar

T = TypeVar('T')


class Batch(Generic[T]):
    """Asks one question at a time, for all keys that have come in until it is asked.

    So no answer is older than its question: whatever was acknowledged to anyone before
    a look-up came in, the query that answers it has seen.

    Args:
        ask: returns what it finds of a set of keys.
    """

    def __init__(self, ask: Callable[[Set[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._ask = ask
        self._turn = asyncio.Lock()
        self._keys: set[str] = set()
        self._next: asyncio.Task[Mapping[str, T]] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: str) -> T | None:
        """Look a key up; raises what the query raises.

        The query is a task of its own, so that a caller who is cancelled takes it away
        from nobody.
        """
        self._keys.add(key)
        if self._next is None:
            self._next = asyncio.create_task(self._query())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._forget)
        return (await asyncio.shield(self._next)).get(key)

    async def stop(self) -> None:
        """Let the queries under way end."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _query(self) -> Mapping[str, T]:
        async with self._turn:
            keys, self._keys, self._next = self._keys, set(), None
            return await self._ask(keys)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """Let go of a task, also of an error that nobody is left to hear of."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
