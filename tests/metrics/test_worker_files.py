from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asgilook.metrics import worker_files
from asgilook.metrics.worker_files import (
    ENVIRONMENT_VARIABLE,
    WorkerFiles,
    shared_folder,
)

from ..conftest import open_files
from ..servers import run

# Each process becomes a worker, counts one request, and is killed.
MANY_WORKERS = """
import os, signal, sys
from asgilook.metrics.worker_files import WorkerFiles
from prometheus_client.mmap_dict import MmapedDict
for _ in range(200):
    if os.fork() == 0:
        WorkerFiles(sys.argv[1])
        for kind in ('counter', 'histogram', 'gauge_livesum'):
            file = MmapedDict(f'{sys.argv[1]}/{kind}_{os.getpid()}.db')
            value, _ = file.read_value('key')
            file.write_value('key', value + 1, 0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
WorkerFiles(sys.argv[1])
for kind in ('counter', 'histogram'):
    file = MmapedDict(f'{sys.argv[1]}/{kind}_{os.getpid()}.db')
    print(*os.listdir(sys.argv[1]), file.read_value('key')[0])
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that stands for the shared memory of the machine."""
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(worker_files, 'SHARED_MEMORY', str(tmp_path))
    return tmp_path


def lock(path: Path) -> int:
    """Lock a file or folder as a living process does; return its descriptor."""
    file = os.open(path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def names(folder: Path) -> set[str]:
    """Return the names of prometheus-client's files."""
    return {name for name in os.listdir(folder) if name.endswith('.db')}


def test_folder_is_made_and_removed(base: Path) -> None:
    with shared_folder(2):
        (folder,) = base.iterdir()
        assert os.environ[ENVIRONMENT_VARIABLE] == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / 'counter_1.db').write_bytes(b'')
    assert [*base.iterdir()] == []
    assert ENVIRONMENT_VARIABLE not in os.environ


def test_folder_is_removed_after_a_failure(base: Path) -> None:
    with pytest.raises(SystemExit), shared_folder(2):
        raise SystemExit(3)
    assert [*base.iterdir()] == []


def test_one_worker_needs_no_folder(base: Path) -> None:
    with shared_folder(1):
        assert ENVIRONMENT_VARIABLE not in os.environ
        assert [*base.iterdir()] == []


def test_own_folder_is_used_and_kept(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = base / 'own'
    own.mkdir()
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(own))
    with shared_folder(2):
        assert os.environ[ENVIRONMENT_VARIABLE] == str(own)
    assert [*base.iterdir()] == [own]


def test_without_shared_memory_the_folder_is_temporary(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_files, 'SHARED_MEMORY', str(base / 'missing'))
    monkeypatch.setattr(tempfile, 'tempdir', str(base))
    with shared_folder(2):
        assert len([*base.iterdir()]) == 1


def test_service_starts_without_a_metrics_folder(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_files, 'SHARED_MEMORY', str(base / 'missing'))
    monkeypatch.setattr(tempfile, 'tempdir', str(base / 'missing'))
    with shared_folder(2):
        assert ENVIRONMENT_VARIABLE not in os.environ
    assert 'no folder for shared metrics' in caplog.text


def test_folders_of_killed_services_are_removed(base: Path) -> None:
    dead, living, other = (
        base / name for name in ('asgilook-metrics-1', 'asgilook-metrics-2', 'other')
    )
    for folder in (dead, living, other):
        folder.mkdir()
        (folder / 'counter_1.db').write_bytes(b'')
    held = lock(living)
    with shared_folder(2):
        assert not dead.exists()
        assert living.exists()
        assert other.exists()
    os.close(held)


def test_folder_that_is_removed_before_it_is_locked_is_made_again(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def make(**kwargs: Any) -> str:
        made.append(mkdtemp(**kwargs))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, 'mkdtemp', make)
    with shared_folder(2):
        assert os.environ[ENVIRONMENT_VARIABLE] == made[1]


def test_folder_that_is_removed_while_it_is_locked_is_made_again(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = iter([False, True])
    monkeypatch.setattr(os.path, 'exists', lambda path: next(exists))
    with shared_folder(2):
        assert len([*base.iterdir()]) == 2


@pytest.mark.parametrize('name', ['SpawnProcess-1', 'SpawnProcess-2'])
def test_first_worker_logs_that_there_is_no_folder(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    process = SimpleNamespace(name=name)
    monkeypatch.setattr(multiprocessing, 'current_process', lambda: process)
    monkeypatch.setattr(multiprocessing, 'parent_process', lambda: process)
    assert worker_files.worker_files() is None
    assert [record.levelno for record in caplog.records] == (
        [logging.WARNING] if name == 'SpawnProcess-1' else []
    )


def test_single_process_has_no_files(caplog: pytest.LogCaptureFixture) -> None:
    assert worker_files.worker_files() is None
    assert caplog.records == []


def test_worker_makes_the_folder_of_the_variable(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(base / 'new'))
    files = worker_files.worker_files()
    assert files is not None
    with files.scrape() as scrape:
        assert scrape.living == scrape.pids == {os.getpid()}
        assert scrape.paths == []  # the only file is empty


def test_new_worker_takes_over_the_files_of_one_dead_worker(base: Path) -> None:
    for name in (
        *('counter_1.db', 'histogram_1.db', 'gauge_livesum_1.db'),
        *('counter_2.db', 'histogram_2.db', 'gauge_livesum_2.db'),
        *('counter_3.db', 'histogram_3.db', 'gauge_livesum_3.db'),
    ):
        (base / name).write_text(name)
    held = lock(base / 'counter_3.db')
    before = {path: path.read_text() for path in base.glob('[ch]*.db')}
    WorkerFiles(str(base))

    own = {f'counter_{os.getpid()}.db', f'histogram_{os.getpid()}.db'}
    left = names(base) - own
    assert {name for name in left if name.startswith('gauge')} == {'gauge_livesum_3.db'}
    assert len(left) == 5
    assert {'counter_3.db', 'histogram_3.db'} < left
    after = {path.read_text() for path in base.glob('[ch]*.db')}
    assert after == set(before.values())
    os.close(held)


def test_worker_with_the_id_of_a_dead_one_continues_its_files(base: Path) -> None:
    own, gauge = (base / f'{kind}_{os.getpid()}.db' for kind in ('counter', 'gauge_x'))
    for path in (own, gauge):
        path.write_text('kept')
    WorkerFiles(str(base))
    assert own.read_text() == 'kept'
    assert not gauge.exists()


def test_second_object_of_a_process_changes_nothing(base: Path) -> None:
    for _ in range(2):
        WorkerFiles(str(base))
        assert names(base) == {f'counter_{os.getpid()}.db'}


def test_scrape_reads_counters_of_all_and_gauges_of_the_living(base: Path) -> None:
    files = WorkerFiles(str(base))
    for name in ('counter_1.db', 'gauge_livesum_1.db', 'counter_2.db', 'gauge_x_2.db'):
        (base / name).write_text('x')
    held = lock(base / 'counter_2.db')
    with files.scrape() as scrape:
        found = {os.path.basename(path) for path in scrape.paths}
        assert found == {'counter_1.db', 'counter_2.db', 'gauge_x_2.db'}
        assert scrape.living == {2, os.getpid()}
        assert scrape.pids == {1, 2, os.getpid()}
    os.close(held)


def test_order_of_files_outlasts_a_new_name(base: Path) -> None:
    """The sum of floats depends on their order, and must not go back."""
    files = WorkerFiles(str(base))
    for number in range(9):
        (base / f'counter_{number}.db').write_text('x')

    def inodes() -> list[int]:
        with files.scrape() as scrape:
            return [os.stat(path).st_ino for path in scrape.paths]

    before = inodes()
    for number in range(9):
        os.rename(base / f'counter_{number}.db', base / f'counter_{99 - number}.db')
    assert inodes() == before


def test_lock_that_fails_leaves_no_file_open(base: Path) -> None:
    (base / 'counter_1.db').write_text('x')
    held = lock(base / 'counter_1.db')
    before = open_files(base)
    files = WorkerFiles(str(base))
    for _ in range(3):
        with files.scrape() as scrape:
            assert 1 in scrape.living
    assert open_files(base) == before + 2  # for its own lifetime
    os.close(held)


def test_hundreds_of_workers_leave_the_files_of_one(base: Path) -> None:
    done = run('-c', MANY_WORKERS, str(base))
    assert done.returncode == 0, done.stderr
    counters, histograms = done.stdout.split('\n')[:2]
    for line in (counters, histograms):
        *listed, value = line.split()
        assert float(value) == 200
        assert len(listed) == 3  # counters, histograms, and the lock


def test_no_file_is_renamed_during_a_scrape(base: Path) -> None:
    """A new worker waits for the lock, which several scrapes may share."""
    files = WorkerFiles(str(base))
    lock = os.open(base / 'lock', os.O_RDONLY)
    with files.scrape(), files.scrape(), pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)
