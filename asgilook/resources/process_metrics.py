"""Memory, processor time and open files of a service that has several processes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import partial
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, Metric

_CPU_SECONDS = 'process_cpu_seconds'

# The earliest start is that of the service; all other values are added up.
_COMBINE = {'process_start_time_seconds': min}


class ProcessTimes(NamedTuple):
    """Processor times from /proc/PID/stat (proc(5)), in clock ticks."""

    parent: int
    own: int
    reaped_children: int


def collect_living(pids: Collection[int]) -> Iterator[Metric]:
    """Yield the families of `ProcessCollector`, for several processes together.

    Processor time is omitted: its sum would decrease when a process ends.
    """
    families: dict[str, Metric] = {}
    values: dict[str, list[float]] = {}
    for pid in pids:
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            families[family.name] = family
            values.setdefault(family.name, []).append(family.samples[0].value)
    families.pop(_CPU_SECONDS, None)
    for name, family in families.items():
        value = _COMBINE.get(name, sum)(values[name])
        family.samples = [family.samples[0]._replace(value=value)]
        yield family


def collect_cpu(supervisor: int, pids: Collection[int]) -> Iterator[Metric]:
    """Yield the processor time of a supervisor and its workers, dead or alive.

    The system adds the time of a dead worker to that of the supervisor once the
    supervisor has waited for it, so the sum never decreases. `pids` must contain all
    workers for which the supervisor has not waited yet.
    """
    before = process_times(supervisor)
    while before is not None:
        workers = [times for pid in pids if (times := process_times(pid)) is not None]
        after = process_times(supervisor)
        if after is not None and after.reaped_children == before.reaped_children:
            ticks = sum(times.own for times in workers if times.parent == supervisor)
            ticks += after.own + after.reaped_children
            yield CounterMetricFamily(
                _CPU_SECONDS,
                'Processor time of the supervisor and all of its workers, in seconds.',
                value=ticks / os.sysconf('SC_CLK_TCK'),
            )
            return
        before = after


def process_times(pid: int) -> ProcessTimes | None:
    """Return the times of a process; None if there is no such process."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            fields = file.read().rpartition(b')')[2].split()
    except OSError:
        return None
    user, system, reaped_user, reaped_system = map(int, fields[11:15])
    return ProcessTimes(int(fields[1]), user + system, reaped_user + reaped_system)
