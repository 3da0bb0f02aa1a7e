"""Bounded worker threads, single flight, and a circuit breaker."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from .errors import Busy, DeadlineExceeded
from .metrics.registry import Metrics
from .models import CheckDeadline

K = TypeVar('K', bound=Hashable)
T = TypeVar('T')

# PERF: a lower priority of the worker threads halves the time for which cache hits wait
# behind renders, at the same rate of renders.
NICENESS = 10

# How long the result of a single flight is kept, in seconds: for callers that looked
# into the cache just before the result was stored there.
KEEP_SECONDS = 0.25


class Pool:
    """A ThreadPoolExecutor with a bounded queue and a deadline for each job.

    It is separate from the event loop's default executor, which serves file reads and
    must not wait for decoders. A thread can't be killed, so a job gets a
    `check_deadline` to call often; it raises `DeadlineExceeded` once the job's time is
    up or the pool stops.

    Args:
        threads: number of jobs that run at a time.
        queue_size: number of jobs that may wait for a thread.
        timeout: time limit of a job, in seconds.
        metrics: where durations, queue length and rejections are counted.
    """

    def __init__(
        self,
        threads: int,
        queue_size: int,
        timeout: float,
        metrics: Metrics | None = None,
    ) -> None:
        self._threads = threads
        self._limit = threads + queue_size
        self._timeout = timeout
        self._metrics = metrics or Metrics()
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closing = False
        self._job_seconds = 0.1
        self.pending = 0

    def start(self) -> None:
        """Accept jobs, for the first time or again."""
        self._closing = False

    async def stop(self) -> None:
        """Make every job exceed its deadline, and wait for the threads."""
        self._closing = True
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)

    def admit(self) -> None:
        """Raise `Busy` if another job would exceed the queue."""
        if self._closing:
            raise Busy('The service is stopping.')
        if self.pending >= self._limit:
            self._metrics.rejections.inc()
            raise Busy('Too much work is waiting; try again later.', self.retry_after())

    async def run(self, job: Callable[[CheckDeadline], T], kind: str = 'other') -> T:
        """Run `job(check_deadline)` in a thread; raise `Busy` if the queue is full.

        Cancelling the caller does not stop a running job: `pending` counts it until
        its thread is free. `kind` labels its duration in the metrics.
        """
        self.admit()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(
                self._threads, 'asgilook-pixels', initializer=_lower_priority
            )
        self._count(1)
        try:
            future: Future[T] = self._executor.submit(self._timed, job, kind)
        except RuntimeError as ex:
            self._count(-1)
            raise Busy('No thread can be started; try again later.') from ex
        future.add_done_callback(lambda _: self._count(-1))
        return await asyncio.wrap_future(future)

    def retry_after(self) -> int:
        """Estimate the seconds until all pending jobs are done, at least 1."""
        return max(1, math.ceil(self.pending * self._job_seconds / self._threads))

    def _count(self, change: int) -> None:
        with self._lock:
            self.pending += change
            self._metrics.queue_length.set(max(0, self.pending - self._threads))

    def _timed(self, job: Callable[[CheckDeadline], T], kind: str) -> T:
        start = time.monotonic()

        def check_deadline() -> None:
            if self._closing or time.monotonic() - start > self._timeout:
                raise DeadlineExceeded('Processing this image exceeded the time limit.')

        try:
            check_deadline()
            return job(check_deadline)
        finally:
            took = time.monotonic() - start
            self._metrics.job_duration.labels(kind).observe(took)
            # A moving average, so that Retry-After follows the current load.
            self._job_seconds += (took - self._job_seconds) / 8


def _lower_priority() -> None:
    """Raise the niceness of this thread; on Linux each has its own (setpriority(2))."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):  # a container may forbid it
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


class SingleFlight(Generic[K, T]):
    """Runs one job for all concurrent callers with the same key.

    The job continues even if all of its callers are cancelled.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def run(self, key: K, job: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the job for `key`, or raise its exception."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(job())
            task.add_done_callback(partial(self._forget, key))
        return await outlive(task)

    async def stop(self) -> None:
        """Wait for all running jobs."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())
            self._tasks.clear()

    def _forget(self, key: K, task: asyncio.Task[T]) -> None:
        seconds = 0 if task.cancelled() or task.exception() else KEEP_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._tasks.pop, key, None)


class CallInThread(Protocol):
    """Calls a blocking function in a thread."""

    async def __call__(self, function: Callable[..., T], *args: object) -> T:
        """Return what the function returns."""
        ...


async def in_task() -> None:
    """Return once the calling coroutine has a task; it may have started without one.

    `asyncio.timeout` and other parts of asyncio need a task; see web/eager.py.
    """
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


async def outlive(task: asyncio.Task[T]) -> T:
    """Await a task that continues if this caller is cancelled."""
    task.add_done_callback(_retrieve_exception)
    return await asyncio.shield(task)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from logging a failure that no caller is left to receive."""
    if not task.cancelled():
        task.exception()


class CircuitBreaker:
    """Rejects calls to a failing service, except for one trial call per interval.

    The states are those of M. Nygard, "Release It!": closed (calls pass), open (calls
    are rejected), half-open (one trial call passes). Calls that overlap a change of
    state belong to an earlier generation: their results are ignored, so that many calls
    that fail for the same reason count once. Calls may come from several threads.

    Args:
        retry_seconds: time between two trial calls.
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self, retry_seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._generation = 0
        self._retry_at: float | None = None
        self.failing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are rejected, except for trials."""
        return self._retry_at is not None

    def enter(self) -> int | None:
        """Return a token for one call, or None if the call is rejected."""
        with self._lock:
            if self._retry_at is not None:
                if self._clock() < self._retry_at:
                    return None
                self._retry_at = self._clock() + self._retry_seconds
            return self._generation

    def succeed(self, token: int) -> bool:
        """Record a success; return whether it ended a failure."""
        with self._lock:
            if token != self._generation or not self.failing:
                return False
            self._generation += 1
            self._retry_at = None
            self.failing = False
            return True

    def fail(self, token: int, *, open_circuit: bool = True) -> bool:
        """Record a failure; return whether it is the first one of its generation.

        With `open_circuit` false, further calls are still allowed.
        """
        with self._lock:
            if token != self._generation:
                return False
            self._generation += 1
            retry_at = self._clock() + self._retry_seconds
            self._retry_at = retry_at if open_circuit else None
            self.failing = True
            return True
