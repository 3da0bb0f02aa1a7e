"""Supervisor of the worker processes of `asgilook serve --workers N`.

uvicorn's own stops all workers when one of them fails to start, then exits with 0
(https://github.com/Kludex/uvicorn/pull/3001), handles no signal during a reload, and
its workers outlive it when it is killed.

NOTE(uvicorn): this overrides undocumented methods of `Multiprocess`. setup.py pins
uvicorn below its next minor release; tests/cli/test_supervisor.py checks the methods.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from multiprocessing.connection import wait
from typing import Any, Literal

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

log = logging.getLogger(__name__)

COULD_NOT_START = 3

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})

# After SIGTERM, time limit for requests in progress, in seconds; and for the rest of a
# worker's shutdown, if its supervisor is not there to kill it.
GRACEFUL_SHUTDOWN_TIMEOUT = 10
SHUTDOWN_MARGIN = 5

# How long a worker may fail to respond to the supervisor before it is replaced, in
# seconds; and how long one of its checks waits for a response.
PING_TIMEOUT = 10.0
PONG_TIMEOUT = 0.05

# Seconds between two checks for SIGTERM and SIGINT during a reload.
POLL_INTERVAL = 0.1

# Seconds between two attempts to start a worker; doubled after each failure.
MIN_DELAY = 0.5
MAX_DELAY = 30.0


# Of a worker: `lost` has ended or hangs, `silent` has not responded yet.
State = Literal['lost', 'silent', 'starting', 'started']


class Supervisor(Multiprocess):
    """Supervisor that restarts failed workers, with a growing delay between attempts.

    Stops only if no worker has ever started.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.exit_code = 0
        self._has_served = False
        self._ready: set[Process] = set()
        # When workers were sent the ping that they have not responded to.
        self._pinged_at: dict[Process, float] = {}
        # Failed attempts in a row, up to and including that of this worker.
        self._failures: dict[Process, int] = {}
        # When workers that have ended are to be replaced.
        self._retry_at: dict[Process, float] = {}

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended or hang (called every half second)."""
        self._forget_removed()
        for index, process in enumerate(self.processes):
            if self._is_stopping():
                return
            if process in self._retry_at:
                self._retry(index, process)
                continue
            state = self._state(process)
            if state == 'lost':
                self._replace(index, process)
            elif state == 'started':
                self._ready.add(process)
                self._failures.pop(process, None)
                self._has_served = True

    def _forget_removed(self) -> None:
        """Forget workers that a reload, SIGTTOU or this supervisor has removed."""
        self._ready.intersection_update(self.processes)
        records: tuple[dict[Process, Any], ...]
        records = self._pinged_at, self._failures, self._retry_at
        for record in records:
            for process in record.keys() - {*self.processes}:
                del record[process]

    def restart_all(self) -> None:
        """Replace the workers one after the other; stop early at SIGTERM."""
        for index, old in enumerate(self.processes):
            if self._is_stopping():
                return
            new = Process(self.config, self.sockets)
            new.start()
            if not self._wait_until_started(new):
                new.kill()
                new.join()
                if not self._is_stopping():
                    log.error(
                        'worker [%d] failed to start; aborting the reload', new.pid
                    )
                return
            self.processes[index] = new
            old.terminate()
            while not wait([old.process.sentinel], POLL_INTERVAL):
                if self._is_stopping():
                    # NOTE(stop): `join_all` waits for its requests in progress.
                    self.processes.append(old)
                    return
            old.join()

    def _is_stopping(self) -> bool:
        """Return whether a signal to stop has arrived, even if it is still queued."""
        return self.should_exit.is_set() or not STOP_SIGNALS.isdisjoint(
            self.signal_queue
        )

    def _wait_until_started(self, process: Process) -> bool:
        """Return whether a new worker starts in time, and before a signal to stop."""
        timeout = self.config.timeout_worker_healthcheck
        deadline = time.monotonic() + timeout
        while (state := self._state(process, timeout)) != 'started':
            if state == 'lost' or self._is_stopping() or time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL)
        return True

    def _state(self, process: Process, timeout: float = PING_TIMEOUT) -> State:
        """Return the state of a worker, without waiting for one that hangs.

        A worker is lost if it does not respond for more than `timeout` seconds.
        """
        connection, sentinel = process.parent_conn, process.process.sentinel
        try:
            if process not in self._pinged_at:
                self._pinged_at[process] = time.monotonic()
                connection.send(b'ping')
            ready = wait([connection, sentinel], PONG_TIMEOUT)
            if sentinel in ready:
                return 'lost'
            if connection in ready:
                del self._pinged_at[process]
                return 'started' if connection.recv() else 'starting'
        except (OSError, EOFError):
            return 'lost'
        waited = time.monotonic() - self._pinged_at[process]
        return 'lost' if waited > timeout else 'silent'

    def _replace(self, index: int, process: Process) -> None:
        process.kill()
        process.join()
        if process in self._ready:
            log.error('worker [%d] ended unexpectedly; restarting it', process.pid)
            self._retry_at[process] = 0.0
        else:
            failures = self._failures[process] = self._failures.get(process, 0) + 1
            delay = min(MIN_DELAY * 2 ** (failures - 1), MAX_DELAY)
            self._retry_at[process] = time.monotonic() + delay
            log.error(
                'worker [%d] failed to start; next attempt in %.1f s',
                process.pid,
                delay,
            )
            if not self._has_served and len(self._failures) >= len(self.processes):
                log.error('no worker could start; exiting')
                self.exit_code = COULD_NOT_START
                self.should_exit.set()
        self._retry(index, process)

    def _retry(self, index: int, process: Process) -> None:
        if self.should_exit.is_set() or time.monotonic() < self._retry_at[process]:
            return
        new = self.processes[index] = Process(self.config, self.sockets)
        if process in self._failures:
            self._failures[new] = self._failures.pop(process)
        new.start()


def supervise(config: uvicorn.Config) -> int:
    """Run worker processes until a signal ends them; return the exit code."""
    sock = config.bind_socket()
    try:
        supervisor = Supervisor(config, [sock])
        supervisor.run()
    finally:
        sock.close()
    return supervisor.exit_code


def worker_app() -> Any:
    """Return the app, in a worker that shuts down when its supervisor ends."""
    threading.Thread(target=_follow_supervisor, daemon=True).start()
    # NOTE(startup): the app is created here; the supervisor needs none.
    from ..asgi import app

    return app


def _follow_supervisor() -> None:
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        log.error('the supervisor has ended; shutting down')
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACEFUL_SHUTDOWN_TIMEOUT + SHUTDOWN_MARGIN)
        os._exit(1)
