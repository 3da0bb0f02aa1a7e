"""Work in bulk, on many things: until all are done, it is stopped, or it fails."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

from ..errors import AsgilookError, StorageFull, StorageUnavailable
from .progress import Progress

T = TypeVar('T')


class Bulk:
    """Takes things, some at a time, and counts those that it can't take.

    `failure` is what the storage failed with, and `signal` what it was stopped by.
    """

    def __init__(self, at_a_time: int, progress: Progress) -> None:
        self._at_a_time = at_a_time
        self._progress = progress
        self.refused = 0
        self.failure: AsgilookError | None = None
        self.signal = 0

    @property
    def ended(self) -> bool:
        """Whether no more is to be begun."""
        return bool(self.signal or self.failure)

    def obey(self) -> None:
        """Let Ctrl-C and SIGTERM stop it; only the main thread may do this."""
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = partial(self.stop, number)
            asyncio.get_running_loop().add_signal_handler(number, handler)

    def stop(self, number: int) -> None:
        """Begin no more, because of a signal; what is under way goes on to its end."""
        if not self.signal:
            self._progress.say('stopping once the files under way are done')
        self.signal = self.signal or number

    def refuse(self, name: str, reason: str) -> None:
        """Count what can't be taken, and say why."""
        self.refused += 1
        self._progress.say(f'{name if name.isprintable() else repr(name)}: {reason}')

    async def each(
        self, things: Iterator[T], take: Callable[[T], Awaitable[None]]
    ) -> None:
        """Take each of these things; a storage that fails ends it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_a_time):
                group.create_task(self._work(things, take))

    async def _work(
        self, things: Iterator[T], take: Callable[[T], Awaitable[None]]
    ) -> None:
        while not self.ended:
            thing = next(things, None)
            if thing is None:
                return
            try:
                await take(thing)
            except (StorageFull, StorageUnavailable) as ex:
                self.failure = ex
            self._progress.advance()

    def report(self, summary: str) -> int:
        """Print the summary, and return the exit code."""
        print(f'{summary}, refused {self.refused}')
        if self.failure:
            cause = self.failure.__cause__
            why = f'{self.failure} ({cause})' if cause else str(self.failure)
            print(f'asgilook: {why}', file=sys.stderr)
        elif self.signal:
            print('asgilook: stopped; run it again to go on', file=sys.stderr)
            return 128 + self.signal
        return 1 if self.refused or self.failure else 0
