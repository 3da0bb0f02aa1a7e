from __future__ import annotations

import asyncio
import os
import threading

import pytest

from asgilook.concurrency import NICENESS, CircuitBreaker, Pool
from asgilook.errors import Busy, DeadlineExceeded
from asgilook.metrics import Metrics
from asgilook.models import CheckDeadline

from .conftest import until


def thread_name(check: CheckDeadline) -> str:
    return threading.current_thread().name


class Blocker:
    """A job that runs until it is let go."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.release = threading.Event()

    def __call__(self, check: CheckDeadline) -> str:
        self.running.set()
        self.release.wait(10)
        check()
        return 'done'

    async def start(self, pool: Pool) -> asyncio.Task[str]:
        """Run in `pool`; return when it does."""
        task = asyncio.create_task(pool.run(self))
        assert await asyncio.to_thread(self.running.wait, 10)
        return task


def test_job_runs_in_a_thread_of_the_pool() -> None:
    async def main() -> None:
        pool = Pool(2, 1, 10)
        assert (await pool.run(thread_name)).startswith('asgilook-pixels')
        await pool.stop()

    asyncio.run(main())


def test_job_gives_way_to_the_event_loop() -> None:
    def niceness(check: CheckDeadline) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def main() -> None:
        before = niceness(lambda: None)
        pool = Pool(1, 0, 10)
        assert await pool.run(niceness) == min(before + NICENESS, 19)
        assert niceness(lambda: None) == before
        await pool.stop()

    asyncio.run(main())


def test_job_error_reaches_its_caller() -> None:
    def fail(check: CheckDeadline) -> None:
        raise LookupError('of the job')

    async def main() -> None:
        pool = Pool(1, 0, 10)
        with pytest.raises(LookupError, match='of the job'):
            await pool.run(fail)
        assert pool.pending == 0
        assert await pool.run(thread_name)
        await pool.stop()

    asyncio.run(main())


@pytest.mark.parametrize(('threads', 'queue_size'), [(1, 0), (1, 2), (3, 0), (2, 3)])
def test_job_past_the_queue(threads: int, queue_size: int) -> None:
    async def main() -> None:
        metrics, blocker = Metrics(), Blocker()
        pool = Pool(threads, queue_size, 10, metrics)
        value = metrics.registry.get_sample_value
        tasks = [
            asyncio.create_task(pool.run(blocker)) for _ in range(threads + queue_size)
        ]
        await until(lambda: pool.pending == len(tasks))
        assert value('asgilook_queue_length') == queue_size
        assert value('asgilook_refusals_total') == 0
        with pytest.raises(Busy, match='waiting'):
            pool.admit()
        with pytest.raises(Busy, match='waiting') as raised:
            await pool.run(blocker)
        assert raised.value.retry_after >= 1
        blocker.release.set()
        assert await asyncio.gather(*tasks) == ['done'] * len(tasks)
        assert pool.pending == value('asgilook_queue_length') == 0
        assert value('asgilook_refusals_total') == 2
        assert await pool.run(blocker) == 'done'
        await pool.stop()

    asyncio.run(main())


def test_cancelled_job_counts_until_its_thread_is_free() -> None:
    async def main() -> None:
        pool, blocker = Pool(1, 0, 10), Blocker()
        task = await blocker.start(pool)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(Busy):
            await pool.run(thread_name)
        blocker.release.set()
        await until(lambda: not pool.pending)
        assert await pool.run(thread_name)
        await pool.stop()

    asyncio.run(main())


def test_job_past_the_deadline() -> None:
    def endless(check: CheckDeadline) -> None:
        while True:
            check()

    async def main() -> None:
        pool = Pool(1, 0, 0.02)
        with pytest.raises(DeadlineExceeded, match='time limit'):
            await pool.run(endless)
        assert await pool.run(thread_name)
        await pool.stop()

    asyncio.run(main())


def test_deadline_starts_with_the_job_and_not_in_the_queue() -> None:
    async def main() -> None:
        pool, blocker = Pool(1, 1, 0.05), Blocker()
        late = await blocker.start(pool)
        queued = asyncio.create_task(pool.run(lambda check: check()))
        await asyncio.sleep(0.06)
        blocker.release.set()
        with pytest.raises(DeadlineExceeded):
            await late
        await queued
        await pool.stop()

    asyncio.run(main())


def test_stop_ends_jobs_and_takes_no_more() -> None:
    async def main() -> None:
        pool, blocker = Pool(1, 1, 10), Blocker()
        running = await blocker.start(pool)
        queued = asyncio.create_task(pool.run(thread_name))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(pool.stop())
        await asyncio.sleep(0)
        with pytest.raises(Busy, match='stopping'):
            pool.admit()
        blocker.release.set()
        await stopping
        for task in (running, queued):
            with pytest.raises(DeadlineExceeded):
                await task
        with pytest.raises(Busy, match='stopping'):
            await pool.run(thread_name)
        pool.start()
        assert await pool.run(thread_name)
        await pool.stop()

    asyncio.run(main())


def test_stop_of_an_idle_pool() -> None:
    async def main() -> None:
        pool = Pool(1, 0, 10)
        for _ in range(2):
            pool.start()
            await pool.stop()

    asyncio.run(main())


def test_retry_after_follows_the_work() -> None:
    async def main() -> None:
        pool = Pool(2, 100, 10)
        assert pool.retry_after() == 1
        pool.pending = 101
        assert pool.retry_after() == 6
        pool.pending = 0
        for _ in range(30):
            await pool.run(thread_name)
        pool.pending = 101
        assert pool.retry_after() == 1
        pool.pending = 0
        await pool.stop()

    asyncio.run(main())


# Circuit breaker


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_breaker_admits_one_trial_at_an_interval() -> None:
    clock = Clock()
    breaker = CircuitBreaker(4, clock)
    first = breaker.enter()
    assert first is not None
    assert breaker.fail(first)
    assert (breaker.failing, breaker.is_open) == (True, True)
    assert breaker.enter() is None
    clock.now = 4
    trial = breaker.enter()
    assert trial is not None
    assert breaker.enter() is None
    assert breaker.succeed(trial)
    assert (breaker.failing, breaker.is_open) == (False, False)
    assert breaker.enter() is not None


def test_breaker_ignores_calls_of_an_earlier_generation() -> None:
    breaker = CircuitBreaker(4, Clock())
    calls = [breaker.enter() for _ in range(3)]
    assert None not in calls
    first, second, third = (call or 0 for call in calls)
    assert not breaker.succeed(first)
    assert breaker.fail(first)
    assert not breaker.fail(second)
    assert not breaker.succeed(third)
    assert breaker.failing


def test_breaker_that_stays_closed() -> None:
    breaker = CircuitBreaker(4, Clock())
    assert breaker.fail(breaker.enter() or 0, open_circuit=False)
    assert (breaker.failing, breaker.is_open) == (True, False)
    assert breaker.succeed(breaker.enter() or 0)
