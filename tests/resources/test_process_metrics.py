from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from asgilook.resources import process_metrics
from asgilook.resources.process_metrics import collect_cpu, collect_living


def values(families: Iterable[Metric]) -> dict[str, float]:
    """Return the only value of each family."""
    found = {}
    for family in families:
        (sample,) = family.samples
        assert sample.labels == {}
        found[family.name] = sample.value
    return found


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that has used some processor time, and sleeps."""
    code = 'import time; [0 for _ in range(10**6)]; print(flush=True); time.sleep(60)'
    with subprocess.Popen([sys.executable, '-c', code], stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_one_process_is_as_in_the_library() -> None:
    expected = values(ProcessCollector(registry=None).collect())
    found = values(collect_living([os.getpid()]))
    assert found.keys() | {'process_cpu_seconds'} == expected.keys()
    for name in ('process_open_fds', 'process_max_fds', 'process_start_time_seconds'):
        assert found[name] == expected[name]


def test_processes_are_added_up(child: subprocess.Popen[bytes]) -> None:
    one, other, both = (
        values(collect_living(pids))
        for pids in ([os.getpid()], [child.pid], [os.getpid(), child.pid])
    )
    assert both['process_open_fds'] == one['process_open_fds'] + 3
    assert both['process_max_fds'] == one['process_max_fds'] + other['process_max_fds']
    memory = 'process_resident_memory_bytes'
    assert both[memory] > max(one[memory], other[memory])
    started = 'process_start_time_seconds'
    assert both[started] == one[started] < other[started]


def test_dead_processes_are_passed_over(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert list(collect_living([child.pid])) == []


def cpu_seconds(supervisor: int, *pids: int) -> float:
    """Return the processor time of these processes."""
    return values(collect_cpu(supervisor, pids))['process_cpu_seconds']


def test_processor_time_survives_its_process(child: subprocess.Popen[bytes]) -> None:
    own = os.getpid()
    before = cpu_seconds(own)
    living = cpu_seconds(own, child.pid)
    assert living > before
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = cpu_seconds(own, child.pid)
    child.wait()
    reaped = cpu_seconds(own, child.pid)
    assert living <= zombie <= reaped < living + 10


def test_processor_time_of_other_processes_is_not_counted() -> None:
    start = time.process_time()
    assert cpu_seconds(os.getpid(), os.getppid()) <= start + 5 + sum(os.times()[2:4])


def test_process_that_ends_meanwhile_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first look at the supervisor comes before the worker is waited for."""
    times = process_metrics.ProcessTimes
    tick = os.sysconf('SC_CLK_TCK')
    looks = iter(
        [times(1, 10, 0), times(7, 5, 0), times(1, 10, 5), None, times(1, 10, 5)]
    )
    monkeypatch.setattr(process_metrics, 'process_times', lambda pid: next(looks))
    assert cpu_seconds(7, 8) == 15 / tick


def test_supervisor_that_has_ended(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert list(collect_cpu(child.pid, [])) == []
