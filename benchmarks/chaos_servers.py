"""Servers that `benchmarks.chaos` breaks and repairs, and the faults of each."""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.backends import sql
from tests.servers import (
    HOST,
    Process,
    RedisServer,
    Server,
    free_port,
    require,
    until,
)

from .chaos_ledger import Ledger


class Fault(NamedTuple):
    """Something that happens to a server, and is over when the context ends."""

    target: str
    name: str
    inject: Callable[[], AbstractContextManager[object]]


@contextlib.contextmanager
def frozen(pids: Callable[[], list[int]]) -> Iterator[None]:
    """Stop processes and continue them, unless they have ended meanwhile."""
    stopped = pids()
    _send(signal.SIGSTOP, stopped)
    yield
    _send(signal.SIGCONT, stopped)


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Return the child processes of a process; none if it has ended."""
    try:
        text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


class Restartable:
    """A server that can be killed and started again, with the same data and port.

    Args:
        make: starts its process.
        end: the signal that ends it.
    """

    def __init__(self, make: Callable[[], Process], end: signal.Signals) -> None:
        self._make = make
        self._end = end
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        self._process = self._make().__enter__()

    def stop(self, number: signal.Signals | None = None) -> None:
        if self._process is not None:
            self._process.stop(number or self._end)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextlib.contextmanager
    def down(self, number: signal.Signals | None = None) -> Iterator[None]:
        self.stop(number)
        yield
        self.start()

    def faults(self, target: str) -> list[Fault]:
        return [
            Fault(target, 'stopped', self.down),
            Fault(target, 'frozen', partial(frozen, self._pids)),
        ]

    def _pids(self) -> list[int]:
        return [self.pid, *children(self.pid)]


class Redis(Restartable):
    """A Redis without persistence."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        super().__init__(partial(RedisServer, folder, self.port), signal.SIGKILL)
        self.url = f'redis://{HOST}:{self.port}'


class Postgres(Process):
    ready = 'is ready to accept connections'


class PostgreSQL(Restartable):
    """A cluster of its own, which trusts everyone on this machine."""

    def __init__(self, folder: Path) -> None:
        binaries = sorted(Path('/usr/lib/postgresql').glob('*/bin'))
        if not binaries:
            raise SystemExit('PostgreSQL is not installed')
        self.port = free_port()
        data = str(folder / 'postgresql')
        prefix: list[str] = []
        if os.getuid() == 0:  # as which PostgreSQL does not run
            user = '--reuid=postgres', '--regid=postgres', '--init-groups'
            prefix = [require('setpriv'), *user]
            folder.chmod(0o711)
            os.mkdir(data)
            shutil.chown(data, 'postgres', 'postgres')
        init = [f'{binaries[-1]}/initdb', '--auth=trust', '--username=postgres']
        Process(folder, *prefix, *init, '-D', data).wait()
        serve = [f'{binaries[-1]}/postgres', '-D', data, '-k', data]
        listen = ['-h', HOST, '-p', str(self.port)]
        make = partial(Postgres, folder, *prefix, *serve, *listen)
        super().__init__(make, signal.SIGINT)
        self.url = f'postgresql://postgres@{HOST}:{self.port}/postgres'

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        setting = 'alter system set default_transaction_read_only'
        sql(self.url, f'{setting} = on', 'select pg_reload_conf()')
        yield
        sql(self.url, f'{setting} = off', 'select pg_reload_conf()')

    def faults(self, target: str) -> list[Fault]:
        return [
            *super().faults(target),
            Fault(target, 'crashed', partial(self.down, signal.SIGQUIT)),
            Fault(target, 'read-only', self.read_only),
        ]


class Workers:
    """The worker processes of a service."""

    def __init__(self, server: Server, rng: random.Random, ledger: Ledger) -> None:
        self._server = server
        self._rng = rng
        self._ledger = ledger

    def pids(self) -> list[int]:
        """Return the living workers that have started, the oldest first."""
        started = re.findall(r'Started server process \[(\d+)\]', self._server.log)
        living = set(children(self._server.pid))
        return [pid for pid in map(int, started) if pid in living]

    def faults(self, target: str) -> list[Fault]:
        return [
            Fault(target, 'killed', self.killed),
            Fault(target, 'frozen', partial(frozen, self._any)),
            Fault(target, 'hung', self.hung),
        ]

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        for pid in self._any():
            self._ledger.killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            self._ledger.killed_at = time.monotonic()
        yield

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Freeze a worker until its supervisor replaces it."""
        for pid in self._any():
            self._ledger.killed_at = math.inf
            os.kill(pid, signal.SIGSTOP)
            until(partial(self._is_replaced, pid), 30)
            self._ledger.killed_at = time.monotonic()
        yield

    def _is_replaced(self, pid: int) -> bool:
        return pid not in self.pids()

    def _any(self) -> list[int]:
        """Return any worker but the oldest, which shows whether something leaks."""
        return [self._rng.choice(self.pids()[1:])] if self.pids()[1:] else []
