"""Measure jobs in turn, so that noise on the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor

Job = Callable[[], object]
Rates = dict[str, list[float]]


def rate(job: Job, threads: int, seconds: float) -> float:
    """Return how many times per second `threads` threads together complete a job."""
    with ThreadPoolExecutor(threads) as executor:
        return sum(executor.map(_repeat, [job] * threads, [seconds] * threads))


def _repeat(job: Job, seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        job()
        count += 1
    return count / took


def processor_time(job: Job, repeats: int = 3) -> float:
    """Return the minimum processor time of a job over several runs, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        times.append((time.process_time() - start) * 1000)
    return min(times)


def measure(
    jobs: Mapping[str, Job],
    threads: int,
    *,
    rounds: int = 7,
    seconds: float = 1,
    processes: Mapping[str, Executor] | None = None,
) -> Rates:
    """Return the rate of each job in each round, in this process or in `processes`."""
    rates: Rates = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            if processes:
                done = processes[name].submit(rate, job, threads, seconds).result()
            else:
                done = rate(job, threads, seconds)
            rates[name].append(done)
    return rates


def ratio(rates: Rates, name: str, other: str) -> float:
    """Return the median ratio of the rates of two jobs in the same round."""
    pairs = zip(rates[name], rates[other], strict=True)
    return statistics.median(one / two for one, two in pairs)
