"""Commands that process many items: progress, signals, rejections, exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TextIO, TypeVar

import tqdm

from ..errors import AsgilookError, StorageFull, StorageUnavailable

T = TypeVar('T')

# Without a terminal: maximum number of progress lines, and minimum number of items
# between two of them.
MAX_LINES = 20
MIN_STEP = 100


class Progress:
    """A progress bar on a terminal; otherwise a line for every so many items.

    Args:
        total: number of items; None if unknown.
        file: where to write.
    """

    def __init__(self, total: int | None, file: TextIO) -> None:
        self._of_total = '' if total is None else f' of {total}'
        self._step = 1000 if total is None else max(MIN_STEP, total // MAX_LINES)
        self._file = file
        self._done = 0
        self._bar = tqdm.tqdm(
            total=total, unit='file', file=file, disable=not file.isatty()
        )

    def advance(self) -> None:
        """Count one item as done."""
        self._done += 1
        self._bar.update()
        if self._bar.disable and self._done % self._step == 0:
            self.write(f'{self._done}{self._of_total} files')

    def write(self, line: str) -> None:
        """Print a line, above the bar."""
        tqdm.tqdm.write(line, file=self._file)

    def close(self) -> None:
        """Leave the bar in its last state."""
        self._bar.close()


class Bulk:
    """Processes items concurrently, until all are done, a signal, or a failure.

    Attributes:
        rejected: number of items that can't be processed.
        failure: exception of the storage or the index that ended the run.
        signal: number of the signal that ended the run, or 0.
    """

    def __init__(self, concurrency: int, progress: Progress) -> None:
        self._concurrency = concurrency
        self._progress = progress
        self.rejected = 0
        self.failure: AsgilookError | None = None
        self.signal = 0

    @property
    def ended(self) -> bool:
        """Whether no more items are started."""
        return bool(self.signal or self.failure)

    def handle_signals(self) -> None:
        """Stop at SIGINT and SIGTERM; must be called in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = partial(self.stop, number)
            asyncio.get_running_loop().add_signal_handler(number, handler)

    def stop(self, number: int) -> None:
        """Start no more items because of a signal; complete those in progress."""
        if not self.signal:
            self._progress.write('stopping after the files in progress')
        self.signal = self.signal or number

    def reject(self, name: str, reason: str) -> None:
        """Count an item that can't be processed, and print the reason."""
        self.rejected += 1
        self._progress.write(f'{name if name.isprintable() else repr(name)}: {reason}')

    async def process_all(
        self, items: Iterator[T], process: Callable[[T], Awaitable[None]]
    ) -> None:
        """Process all items; a failing storage ends the run."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(items, process))

    async def _work(
        self, items: Iterator[T], process: Callable[[T], Awaitable[None]]
    ) -> None:
        while not self.ended:
            item = next(items, None)
            if item is None:
                return
            try:
                await process(item)
            except (StorageFull, StorageUnavailable) as ex:
                self.failure = ex
            self._progress.advance()

    def report(self, summary: str) -> int:
        """Print the summary, and return the exit code."""
        print(f'{summary}, rejected {self.rejected}')
        if self.failure:
            cause = self.failure.__cause__
            reason = f'{self.failure} ({cause})' if cause else str(self.failure)
            print(f'asgilook: {reason}', file=sys.stderr)
        elif self.signal:
            print('asgilook: interrupted; run it again to resume', file=sys.stderr)
            return 128 + self.signal
        return 1 if self.rejected or self.failure else 0
