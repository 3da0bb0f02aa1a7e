"""What the store tells whoever measures it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .concurrency import Check, Pool

T = TypeVar('T')


class Observer:
    """Hears of the work on pixels; this one does nothing with it."""

    def watch(self, pool: Pool) -> None:
        """Take note of the pool whose queue is to be read."""

    def timed(self, kind: str, job: Callable[[Check], T]) -> Callable[[Check], T]:
        """Return the job as it is to be run: `kind` is upload or thumbnail."""
        return job

    def accepted(self, format_: str) -> None:
        """Hear of an upload that was decoded, such as a JPEG; called in a thread."""


SILENT = Observer()
