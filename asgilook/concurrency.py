"""Where pixels run: threads of our own, a bounded queue before them, a deadline.

The loop's default executor serves every file read, so slow decodes must not sit in
it. A thread can't be killed: a job gets a `check` to call often, which raises once
its time is up, or the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .errors import Busy, DeadlineExceeded

T = TypeVar('T')
Check = Callable[[], None]

# How much the threads give way to the event loop, where both want the same core: hits
# then wait half as long behind renders, and as many renders are done.
NICENESS = 10


class Pool:
    """A ThreadPoolExecutor that refuses at once what it can't do soon.

    Args:
        threads: jobs at a time.
        queue_size: jobs that may wait for a thread.
        timeout: seconds that a job may run.
    """

    def __init__(self, threads: int, queue_size: int, timeout: float) -> None:
        self._threads = threads
        self._limit = threads + queue_size
        self._timeout = timeout
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closing = False
        self._job_seconds = 0.1
        self.pending = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return max(0, self.pending - self._threads)

    def start(self) -> None:
        """Take jobs, for the first time or again."""
        self._closing = False

    async def stop(self) -> None:
        """Tell the jobs that their time is up, and wait for their threads."""
        self._closing = True
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)

    def admit(self) -> None:
        """Raise `Busy` where one more job would be too many."""
        if self._closing:
            raise Busy('The service is stopping.')
        if self.pending >= self._limit:
            self.refused += 1
            raise Busy('Too much work is waiting; try again later.', self.retry_after())

    async def run(self, job: Callable[[Check], T]) -> T:
        """Run `job(check)` in a thread; raise `Busy` at once where too many wait.

        A cancelled caller doesn't stop a job that runs: `pending` counts it until
        its thread is free.
        """
        self.admit()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(
                self._threads, 'asgilook-pixels', initializer=_give_way
            )
        self._count(1)
        future: Future[T] = self._executor.submit(self._timed, job)
        future.add_done_callback(lambda _: self._count(-1))
        return await asyncio.wrap_future(future)

    def retry_after(self) -> int:
        """Estimate the seconds until the jobs of now are done, at least 1."""
        return max(1, math.ceil(self.pending * self._job_seconds / self._threads))

    def _count(self, change: int) -> None:
        with self._lock:
            self.pending += change

    def _timed(self, job: Callable[[Check], T]) -> T:
        start = time.monotonic()

        def check() -> None:
            if self._closing or time.monotonic() - start > self._timeout:
                raise DeadlineExceeded('It took too long to work on this image.')

        try:
            check()
            return job(check)
        finally:
            # A moving average, so that Retry-After follows the work of now.
            took = time.monotonic() - start
            self._job_seconds += (took - self._job_seconds) / 8


def _give_way() -> None:
    """Raise the niceness of this thread: Linux has one for each (setpriority(2))."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):  # a container may forbid it
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
