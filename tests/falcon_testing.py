"""Falcon's TestClient without its busy loops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import falcon.testing.client

Wait = Callable[[Sequence[Any]], Awaitable[None]]


def sleep_while_waiting() -> None:
    """Let TestClient sleep while an app starts or stops.

    It yields to the event loop instead, a thousand times for each request, which takes
    more time than the request itself where coverage is measured. Only this time depends
    on the names of Falcon's functions.
    """
    for name, count in (('_wait_for_startup', 1), ('_wait_for_shutdown', 2)):
        original = getattr(falcon.testing.client, name, None)
        if original is not None:
            setattr(falcon.testing.client, name, _sleeping(original, count))


def _sleeping(original: Wait, count: int) -> Wait:
    async def wait(events: Sequence[Any]) -> None:
        """Wait for so many events of the lifespan, then check them."""
        pauses = iter([0.0] * 5)
        while len(events) < count:  # noqa: ASYNC110 (of any object)
            await asyncio.sleep(next(pauses, 0.001))
        await original(events)

    return wait
