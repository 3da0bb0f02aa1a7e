"""Coroutines that start immediately, and become tasks when they first wait.

PERF: a cached response never waits, and creating a task takes as long as finding the
response. The eager tasks of Python 3.12 create the task first, and so save less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def start(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]
) -> asyncio.Task[None] | None:
    """Run a coroutine until it waits, then continue in a task; None if it never waits.

    Code that needs a task, such as `asyncio.timeout`, must await `concurrency.in_task`
    first.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return loop.create_task(StartedCoroutine(coroutine, waits_for))


class StartedCoroutine(Coroutine[Any, Any, None]):
    """A coroutine that has been run up to its first `await` that waits.

    Args:
        coroutine: the coroutine.
        waits_for: what it has yielded: a future, or None.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._is_resumed = False

    def send(self, value: Any) -> Any:
        """Return what it waits for at the first call, then resume it."""
        if self._is_resumed:
            return self._coroutine.send(value)
        self._is_resumed = True
        return self._waits_for

    def throw(self, *args: Any) -> Any:
        """Raise an exception where it waits."""
        self._is_resumed = True
        return self._coroutine.throw(*args)

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Any:
        """Return what to iterate over, as every coroutine does."""
        return self._coroutine.__await__()
