from __future__ import annotations

import asyncio
import os
import threading

import pytest

from asgilook.concurrency import NICENESS, CircuitBreaker, Pool, SingleFlight, outlive
from asgilook.errors import Busy, DeadlineExceeded
from asgilook.metrics.registry import Metrics
from asgilook.models import CheckDeadline

from .conftest import until


def thread_name(check: CheckDeadline) -> str:
    return threading.current_thread().name


class Blocker:
    """A job that runs until it is released."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.release = threading.Event()

    def __call__(self, check: CheckDeadline) -> str:
        self.running.set()
        self.release.wait(10)
        check()
        return 'done'

    async def start(self, pool: Pool) -> asyncio.Task[str]:
        """Start it in `pool`; return once it runs."""
        task = asyncio.create_task(pool.run(self))
        assert await asyncio.to_thread(self.running.wait, 10)
        return task


async def test_job_runs_in_a_thread_of_the_pool() -> None:
    pool = Pool(2, 1, 10)
    assert (await pool.run(thread_name)).startswith('asgilook-pixels')
    await pool.stop()


async def test_job_has_a_lower_priority_than_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('asgilook.concurrency.NICENESS', NICENESS)

    def niceness(check: CheckDeadline) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness(lambda: None)
    pool = Pool(1, 0, 10)
    assert await pool.run(niceness) == min(before + NICENESS, 19)
    assert niceness(lambda: None) == before
    await pool.stop()


async def test_job_error_reaches_its_caller() -> None:
    def fail(check: CheckDeadline) -> None:
        raise LookupError('in the job')

    pool = Pool(1, 0, 10)
    with pytest.raises(LookupError, match='in the job'):
        await pool.run(fail)
    assert pool.pending == 0
    assert await pool.run(thread_name)
    await pool.stop()


async def test_thread_that_cannot_start_leaves_no_pending_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool(1, 0, 10)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', fail)
        with pytest.raises(Busy, match='thread'):
            await pool.run(thread_name)
    assert pool.pending == 0
    assert await pool.run(thread_name)
    await pool.stop()


@pytest.mark.parametrize(('threads', 'queue_size'), [(1, 0), (1, 2), (3, 0), (2, 3)])
async def test_job_past_the_queue_is_rejected(threads: int, queue_size: int) -> None:
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


async def test_cancelled_job_counts_until_its_thread_is_free() -> None:
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


async def test_job_past_the_deadline() -> None:
    def endless(check: CheckDeadline) -> None:
        while True:
            check()

    pool = Pool(1, 0, 0.02)
    with pytest.raises(DeadlineExceeded, match='time limit'):
        await pool.run(endless)
    assert await pool.run(thread_name)
    await pool.stop()


async def test_deadline_starts_with_the_job_and_not_in_the_queue() -> None:
    pool, blocker = Pool(1, 1, 0.3), Blocker()
    late = await blocker.start(pool)
    queued = asyncio.create_task(pool.run(lambda check: check()))
    await asyncio.sleep(0.4)
    blocker.release.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await queued
    await pool.stop()


async def test_stop_ends_jobs_and_rejects_others() -> None:
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


async def test_stop_of_an_idle_pool() -> None:
    pool = Pool(1, 0, 10)
    for _ in range(2):
        pool.start()
        await pool.stop()


async def test_retry_after_follows_the_load() -> None:
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


class Job:
    """A coroutine function that counts its runs and waits for `release`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.release = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.runs += 1
        await self.release.wait()
        if self._error is not None:
            raise self._error
        return self.runs


async def test_one_job_for_all_callers_of_a_key() -> None:
    flight, job, other = SingleFlight[str, int](), Job(), Job()
    callers = [asyncio.create_task(flight.run('key', job)) for _ in range(3)]
    separate = asyncio.create_task(flight.run('other', other))
    await until(lambda: job.runs and other.runs)
    job.release.set()
    other.release.set()
    assert await asyncio.gather(*callers, separate) == [1, 1, 1, 1]
    assert await flight.run('key', job) == 1  # kept for a moment
    await flight.stop()
    assert await flight.run('key', job) == 2
    await flight.stop()


async def test_job_of_single_flight_outlives_its_callers() -> None:
    flight, job = SingleFlight[str, int](), Job()
    caller = asyncio.create_task(flight.run('key', job))
    await until(lambda: job.runs)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    stopping = asyncio.create_task(flight.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    job.release.set()
    await stopping
    await flight.stop()


async def test_failure_of_single_flight_reaches_all_callers() -> None:
    flight, job = SingleFlight[str, int](), Job(LookupError('in the job'))
    callers = [asyncio.create_task(flight.run('key', job)) for _ in range(2)]
    job.release.set()
    for caller in callers:
        with pytest.raises(LookupError):
            await caller
    with pytest.raises(LookupError):
        await asyncio.create_task(flight.run('key', job))
    assert job.runs == 2


async def test_cancelled_task_cancels_those_that_await_it() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    caller = asyncio.create_task(outlive(task))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert task.cancelled()


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(10, clock=clock)


def enter(breaker: CircuitBreaker) -> int:
    """Return the token of a call that is not rejected."""
    token = breaker.enter()
    assert token is not None
    return token


def test_closed_circuit_passes_all_calls(breaker: CircuitBreaker) -> None:
    tokens = [enter(breaker) for _ in range(3)]
    assert [breaker.succeed(token) for token in tokens] == [False] * 3
    assert not breaker.failing


def test_open_circuit_rejects_calls_but_one_at_an_interval(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    assert breaker.fail(enter(breaker))
    assert breaker.failing
    for _ in range(3):
        assert breaker.enter() is None
        clock.now += 9.999
        assert breaker.enter() is None
        clock.now += 0.001
        enter(breaker)  # never reports: it was cancelled
    assert breaker.failing


def test_trial_that_succeeds_closes_the_circuit(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.fail(enter(breaker))
    clock.now += 10
    assert breaker.succeed(enter(breaker))
    assert not breaker.failing
    assert not breaker.succeed(enter(breaker))


def test_trial_that_fails_opens_the_circuit_again(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.fail(enter(breaker))
    clock.now += 10
    trial = enter(breaker)
    clock.now += 5
    assert breaker.fail(trial)
    clock.now += 9.999
    assert breaker.enter() is None
    clock.now += 0.001
    enter(breaker)


def test_fault_counts_once_for_all_of_its_calls(breaker: CircuitBreaker) -> None:
    tokens = [enter(breaker) for _ in range(5)]
    assert [breaker.fail(token) for token in tokens] == [True, *[False] * 4]
    assert breaker.failing


def test_late_success_does_not_close_the_circuit(breaker: CircuitBreaker) -> None:
    first, second = enter(breaker), enter(breaker)
    breaker.fail(first)
    assert not breaker.succeed(second)
    assert breaker.failing
    assert breaker.enter() is None


def test_late_failure_does_not_open_the_circuit_again(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.fail(enter(breaker))
    clock.now += 10
    slow = enter(breaker)
    clock.now += 10
    assert breaker.succeed(enter(breaker))
    assert not breaker.fail(slow)
    assert not breaker.failing
    enter(breaker)


def test_failure_may_leave_the_circuit_closed(breaker: CircuitBreaker) -> None:
    assert breaker.fail(enter(breaker), open_circuit=False)
    assert breaker.failing
    assert breaker.fail(enter(breaker), open_circuit=False)
    assert breaker.succeed(enter(breaker))
    assert not breaker.failing


def test_failure_may_close_an_open_circuit(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.fail(enter(breaker))
    clock.now += 10
    assert breaker.fail(enter(breaker), open_circuit=False)
    enter(breaker)
    assert breaker.failing
