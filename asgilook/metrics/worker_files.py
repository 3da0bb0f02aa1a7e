"""The folder with the metrics of all workers of a service.

In prometheus-client's multiprocess mode each worker counts in memory-mapped files that
are named after its process id, and a scrape adds up the files of all workers. The
application has to create the folder and to manage the files of dead workers. Here, a
new worker takes over the files of a dead one and continues its counters: no count is
lost, no counter decreases, and there are never more files than workers at a time.

Nothing here imports prometheus-client, which chooses its mode when it is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

log = logging.getLogger(__name__)

# The name of this variable is prometheus-client's.
ENVIRONMENT_VARIABLE = 'PROMETHEUS_MULTIPROC_DIR'

# The kind of the files that are not prometheus-client's: tables of requests.
REQUESTS = 'requests'

# PERF: a memory-mapped file on a busy disk can block the event loop for a while.
SHARED_MEMORY = '/dev/shm'  # noqa: S108
_PREFIX = 'asgilook-metrics-'


@contextlib.contextmanager
def shared_folder(workers: int) -> Iterator[None]:
    """Make the folder for the workers of this process, and remove it at the end.

    It is named by an environment variable, which the workers inherit. One worker needs
    no folder, and a folder that the variable names already is left alone.
    """
    if workers == 1 or ENVIRONMENT_VARIABLE in os.environ:
        yield
        return
    try:
        path, lock = _make_folder()
    except OSError as ex:
        log.warning('no folder for shared metrics, so each worker has its own: %s', ex)
        yield
        return
    os.environ[ENVIRONMENT_VARIABLE] = path
    try:
        yield
    finally:
        del os.environ[ENVIRONMENT_VARIABLE]
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)


def worker_files() -> WorkerFiles | None:
    """Return the files of this worker; None if it counts in its own memory."""
    folder = os.environ.get(ENVIRONMENT_VARIABLE)
    if folder:
        return WorkerFiles(folder)
    # NOTE(workers): the first worker of a supervisor logs for all of them.
    if (
        multiprocessing.parent_process() is not None
        and multiprocessing.current_process().name.endswith('-1')
    ):
        log.warning(
            'metrics are those of one process: with several workers, use '
            '`asgilook serve`, or set %s to an empty folder',
            ENVIRONMENT_VARIABLE,
        )
    return None


class Scrape(NamedTuple):
    """The files to add up in a scrape.

    Attributes:
        paths: files of prometheus-client.
        request_paths: tables of requests.
        living: process ids of the living workers.
        pids: process ids of all workers that have files.
    """

    paths: list[str]
    request_paths: list[str]
    living: set[int]
    pids: set[int]


class _File(NamedTuple):
    """A file of a worker, as its name describes it."""

    kind: str
    pid: int
    path: str

    @property
    def is_gauge(self) -> bool:
        return self.kind.startswith('gauge')


class WorkerFiles:
    """The files of this worker and of the other ones.

    A worker holds a lock on its file of counters, which ends with the process.
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._folder = folder
        self._lock = os.path.join(folder, 'lock')
        with self._locked(fcntl.LOCK_EX):
            living = self._living()
            if os.getpid() not in living:
                self._take_over(living)
                # NOTE(locks): both are held until the process ends.
                _open_locked(folder, fcntl.LOCK_SH)
                _open_locked(self.own_path('counter'), fcntl.LOCK_EX, os.O_CREAT)

    @contextlib.contextmanager
    def scrape(self) -> Iterator[Scrape]:
        """Return what there is to add up; no file is renamed until the context ends."""
        with self._locked(fcntl.LOCK_SH):
            living = self._living()
            files = [
                file
                for file in self._files()
                if file.pid in living or not file.is_gauge
            ]
            # NOTE(rounding): floats have to be added in the same order each time, or
            # their sum may go back. A renamed file keeps its inode.
            files.sort(key=lambda file: os.stat(file.path).st_ino)
            yield Scrape(
                paths=[
                    file.path
                    for file in files
                    # A worker fills a new file after it has created it.
                    if file.kind != REQUESTS and os.path.getsize(file.path)
                ],
                request_paths=[file.path for file in files if file.kind == REQUESTS],
                living=living,
                pids={file.pid for file in files},
            )

    def _take_over(self, living: set[int]) -> None:
        """Rename the files of one dead worker, and remove the gauges of all."""
        for file in self._files():
            own_path = self.own_path(file.kind)
            if file.pid in living:
                continue
            if file.is_gauge:
                os.unlink(file.path)
            elif not os.path.exists(own_path):
                os.rename(file.path, own_path)

    def _living(self) -> set[int]:
        return {
            file.pid
            for file in self._files()
            if file.kind == 'counter' and _is_locked(file.path)
        }

    def _files(self) -> list[_File]:
        files = []
        for name in os.listdir(self._folder):
            if name.endswith('.db'):
                kind, _, pid = name[:-3].rpartition('_')
                files.append(_File(kind, int(pid), os.path.join(self._folder, name)))
        return files

    def own_path(self, kind: str) -> str:
        """Return the path of this worker's file of a kind."""
        return os.path.join(self._folder, f'{kind}_{os.getpid()}.db')

    @contextlib.contextmanager
    def _locked(self, operation: int) -> Iterator[None]:
        lock = _open_locked(self._lock, operation, os.O_CREAT)
        try:
            yield
        finally:
            os.close(lock)


def _make_folder() -> tuple[str, int]:
    """Return a new folder and its lock; first remove unused folders.

    The lock also keeps systemd-tmpfiles away from it.
    """
    base = SHARED_MEMORY
    if not os.access(base, os.W_OK):
        base = tempfile.gettempdir()
    for name in os.listdir(base):
        if name.startswith(_PREFIX):
            _remove_unused(os.path.join(base, name))
    while True:
        path = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        with contextlib.suppress(FileNotFoundError):
            lock = _open_locked(path, fcntl.LOCK_SH)
            if os.path.exists(path):
                return path, lock
            os.close(lock)  # another service has removed it before it was locked


def _remove_unused(path: str) -> None:
    with contextlib.suppress(OSError):
        lock = _open_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, os.O_NOFOLLOW)
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _is_locked(path: str) -> bool:
    try:
        os.close(_open_locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    return False


def _open_locked(path: str, operation: int, flags: int = 0) -> int:
    """Open a file or folder and lock it (flock); raises OSError."""
    file = os.open(path, os.O_RDONLY | flags, 0o600)
    try:
        fcntl.flock(file, operation)
    except BaseException:
        os.close(file)
        raise
    return file
