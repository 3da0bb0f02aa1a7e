"""Work that is done once for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar('K', bound=Hashable)
T = TypeVar('T')

# How long a result is there for those who were about to ask for it.
KEEP_SECONDS = 0.25


class SingleFlight(Generic[K, T]):
    """Runs a job once for all callers; it ends also where none of them is left."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def run(self, key: K, job: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the job for `key` returns, or raise what it raises."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(job())
            task.add_done_callback(partial(self._forget, key))
        return await outlive(task)

    async def stop(self) -> None:
        """Wait for what is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())
            self._tasks.clear()

    def _forget(self, key: K, task: asyncio.Task[T]) -> None:
        """Keep a success for those who asked the cache just before it was there."""
        seconds = 0 if task.cancelled() or task.exception() else KEEP_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._tasks.pop, key, None)


async def outlive(task: asyncio.Task[T]) -> T:
    """Await a task that others need too: who is cancelled doesn't cancel it."""
    task.add_done_callback(_retrieve_exception)
    return await asyncio.shield(task)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining where nobody is left to hear of a failure."""
    if not task.cancelled():
        task.exception()
