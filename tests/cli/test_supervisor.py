from __future__ import annotations

import contextlib
import inspect
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess
from uvicorn.supervisors.multiprocess import Process

from asgilook.cli import supervisor
from asgilook.cli.supervisor import Supervisor

from ..servers import Server, free_port, until

pytestmark = pytest.mark.integration


class Worker:
    """A worker process that is only pretended."""

    created: list[Worker]
    started: list[Worker]

    # What a new worker answers to the first ping, if anything.
    first_answer: bool | None = None

    def __init__(self, config: Any, sockets: Any) -> None:
        self.created.append(self)
        self.parent_conn, self._child_conn = multiprocessing.Pipe()
        self._sentinel, self._end = os.pipe()
        self.process = SimpleNamespace(sentinel=self._sentinel)
        self.pid = id(self)
        self.has_started = False
        self.killed = False
        self.terminated = False
        self.joined = False

    def start(self) -> None:
        self.started.append(self)
        if self.first_answer is not None:
            self.answer(has_started=self.first_answer)

    def answer(self, *, has_started: bool) -> None:
        """Answer the next ping, in advance."""
        while self._child_conn.poll():
            self._child_conn.recv()
        self._child_conn.send(has_started)

    def end(self) -> None:
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def kill(self) -> None:
        self.killed = True
        self._disconnect()
        self.end()

    def terminate(self) -> None:
        """Ask it to end, which it does with `end()`."""
        self.terminated = True
        self._disconnect()

    def join(self) -> None:
        self.joined = True

    def close(self) -> None:
        self._disconnect()
        self.end()
        os.close(self._sentinel)

    def _disconnect(self) -> None:
        self.parent_conn.close()
        self._child_conn.close()


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervisor, 'time', clock)
    return clock


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Supervisor]:
    """Yield a supervisor of two workers, which have not started yet."""
    monkeypatch.setattr(signal, 'signal', lambda number, handler: None)
    monkeypatch.setattr(supervisor, 'Process', Worker)
    monkeypatch.setattr(supervisor, 'PONG_TIMEOUT', 0)
    monkeypatch.setattr(supervisor, 'POLL_INTERVAL', 0.01)
    Worker.created = []
    Worker.started = []
    supervised = Supervisor(uvicorn.Config('app', workers=2, log_config=None), [])
    supervised.processes = [Worker(None, None), Worker(None, None)]  # type: ignore[list-item]
    yield supervised
    for worker in Worker.created:
        worker.close()


def workers(supervised: Supervisor) -> list[Worker]:
    return supervised.processes  # type: ignore[return-value]


def test_hook_of_uvicorn() -> None:
    assert 'self.keep_subprocess_alive()' in inspect.getsource(Multiprocess.run)
    assert 'self.join_all()' in inspect.getsource(Multiprocess.run)
    assert 'self.restart_all()' in inspect.getsource(Multiprocess.handle_hup)
    assert 'self.signal_queue.append(' in inspect.getsource(Multiprocess.__init__)
    source = inspect.getsource(Process)
    assert 'self.parent_conn, self.child_conn = Pipe()' in source
    assert 'self.child_conn.send(self.server.started)' in source
    names = ['self', 'config', 'sockets']
    assert [*inspect.signature(Process.__init__).parameters] == names


def test_running_worker_is_left_alone(supervised: Supervisor) -> None:
    for worker in workers(supervised):
        worker.answer(has_started=True)
    supervised.keep_subprocess_alive()
    assert Worker.started == []


def test_ended_worker_is_restarted_at_once(supervised: Supervisor) -> None:
    first, second = workers(supervised)
    for _ in range(5):
        for worker in workers(supervised):
            worker.answer(has_started=True)
        supervised.keep_subprocess_alive()
        workers(supervised)[0].end()
        second.answer(has_started=True)
        supervised.keep_subprocess_alive()
    assert first.killed
    assert len(Worker.started) == 5
    assert workers(supervised) == [Worker.started[-1], second]


def test_worker_that_hangs_is_replaced(supervised: Supervisor, clock: Clock) -> None:
    first, second = workers(supervised)
    for _ in range(2):
        second.answer(has_started=True)
        supervised.keep_subprocess_alive()
        assert not first.killed
        clock.now += supervisor.PING_TIMEOUT
    second.answer(has_started=True)
    supervised.keep_subprocess_alive()
    assert first.killed
    assert not second.killed


def test_worker_that_hangs_delays_no_restart(supervised: Supervisor) -> None:
    first, second = workers(supervised)
    second.end()
    supervised.keep_subprocess_alive()
    assert not first.killed
    assert second.killed


def test_worker_that_responds_late(supervised: Supervisor, clock: Clock) -> None:
    first, second = workers(supervised)
    second.answer(has_started=True)
    supervised.keep_subprocess_alive()
    clock.now += supervisor.PING_TIMEOUT
    for _ in range(2):
        first.answer(has_started=True)
        second.answer(has_started=True)
        supervised.keep_subprocess_alive()
        clock.now += supervisor.PING_TIMEOUT / 2
    assert not first.killed


def test_failed_start_is_repeated_with_a_growing_delay(
    supervised: Supervisor, clock: Clock
) -> None:
    _, second = workers(supervised)
    delays = []
    for _ in range(9):
        workers(supervised)[0].end()
        failed = clock.now
        count = len(Worker.started)
        while len(Worker.started) == count:
            second.answer(has_started=True)
            supervised.keep_subprocess_alive()
            clock.now += 0.25
        delays.append(clock.now - 0.25 - failed)
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert not supervised.should_exit.is_set()

    workers(supervised)[0].answer(has_started=True)
    second.answer(has_started=True)
    supervised.keep_subprocess_alive()
    workers(supervised)[0].end()
    second.answer(has_started=True)
    supervised.keep_subprocess_alive()
    assert len(Worker.started) == 10


def test_delay_is_short_again_after_a_start(
    supervised: Supervisor, clock: Clock
) -> None:
    _, second = workers(supervised)

    def look(after: float) -> None:
        clock.now += after
        second.answer(has_started=True)
        supervised.keep_subprocess_alive()

    for delay in (0.5, 1):
        workers(supervised)[0].end()
        look(0)
        look(delay)
    workers(supervised)[0].answer(has_started=True)
    look(0)
    for _ in range(2):  # the one that had started, and the one in its place
        workers(supervised)[0].end()
        look(0)
    assert len(Worker.started) == 3
    look(0.5)
    assert len(Worker.started) == 4


def test_worker_that_is_starting_is_left_alone(supervised: Supervisor) -> None:
    first, second = workers(supervised)
    first.answer(has_started=False)
    second.answer(has_started=False)
    supervised.keep_subprocess_alive()
    assert Worker.started == []


def test_no_worker_can_start(supervised: Supervisor) -> None:
    first, second = workers(supervised)
    first.end()
    second.answer(has_started=False)
    supervised.keep_subprocess_alive()
    assert supervised.exit_code == 0
    second.end()
    supervised.keep_subprocess_alive()
    assert supervised.exit_code == 3
    assert supervised.should_exit.is_set()
    supervised.keep_subprocess_alive()
    assert Worker.started == []


def test_lost_connection_to_a_worker(supervised: Supervisor) -> None:
    first, second = workers(supervised)
    first.parent_conn.close()
    second.answer(has_started=True)
    supervised.keep_subprocess_alive()
    assert first.killed


def test_reload(supervised: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = workers(supervised)

    def wait_then_end(sentinels: list[Any], timeout: float) -> list[Any]:
        ready = wait(sentinels, timeout)
        for worker in (first, second):
            if worker.terminated:
                worker.end()
        return ready

    monkeypatch.setattr(supervisor, 'wait', wait_then_end)
    monkeypatch.setattr(Worker, 'first_answer', True)
    supervised.handle_hup()
    assert workers(supervised) == Worker.started
    assert len(Worker.started) == 2
    assert first.joined
    assert second.joined


@pytest.mark.parametrize('answer', [None, False])
def test_reload_with_a_worker_that_hangs(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, answer: bool | None
) -> None:
    running = [*workers(supervised)]
    monkeypatch.setattr(Worker, 'first_answer', answer)
    supervised.handle_hup()
    (new,) = Worker.started
    assert new.killed
    assert workers(supervised) == running
    assert not any(worker.terminated or worker.killed for worker in running)


def test_reload_with_a_worker_that_fails(
    supervised: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = [*workers(supervised)]
    monkeypatch.setattr(Worker, 'start', Worker.end)
    supervised.handle_hup()
    assert workers(supervised) == running
    assert 'failed to start; aborting the reload' in caplog.text


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_stop_while_a_new_worker_starts(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    running = [*workers(supervised)]
    monkeypatch.setattr(
        Worker, 'start', lambda self: supervised.signal_queue.append(number)
    )
    supervised.signal_queue.append(signal.SIGHUP)
    supervised.handle_signals()
    new = Worker.created[-1]
    assert new.killed
    assert new.joined
    assert workers(supervised) == running
    supervised.handle_signals()
    assert supervised.should_exit.is_set()


def test_stop_while_an_old_worker_ends(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old worker completes its requests, and the supervisor waits for it."""
    first, second = workers(supervised)
    monkeypatch.setattr(Worker, 'first_answer', True)
    terminate = Worker.terminate

    def terminate_and_stop(self: Worker) -> None:
        terminate(self)
        supervised.signal_queue.append(signal.SIGTERM)

    monkeypatch.setattr(Worker, 'terminate', terminate_and_stop)
    supervised.signal_queue.append(signal.SIGHUP)
    supervised.handle_signals()
    supervised.keep_subprocess_alive()
    (new,) = Worker.started
    assert not first.killed
    supervised.terminate_all()
    supervised.join_all()
    assert all(worker.terminated and worker.joined for worker in (first, second, new))


def test_stop_between_two_workers(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = workers(supervised)

    def end_and_stop(self: Worker) -> None:
        self.end()
        supervised.signal_queue.append(signal.SIGTERM)

    monkeypatch.setattr(Worker, 'first_answer', True)
    monkeypatch.setattr(Worker, 'terminate', end_and_stop)
    supervised.handle_hup()
    assert workers(supervised) == [*Worker.started, second]


def test_reload_while_a_start_is_delayed(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    first, second = workers(supervised)
    second.answer(has_started=True)
    first.end()
    supervised.keep_subprocess_alive()
    monkeypatch.setattr(Worker, 'first_answer', True)
    monkeypatch.setattr(Worker, 'terminate', Worker.end)
    supervised.handle_hup()
    reloaded = [*workers(supervised)]
    clock.now += supervisor.MAX_DELAY
    for worker in reloaded:
        worker.answer(has_started=True)
    supervised.keep_subprocess_alive()
    assert workers(supervised) == reloaded == Worker.started


def test_worker_is_removed_and_added_while_its_start_is_delayed(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(multiprocess, 'Process', Worker)
    first, second = workers(supervised)
    second.end()
    first.answer(has_started=True)
    supervised.keep_subprocess_alive()
    supervised.handle_ttou()
    supervised.handle_ttin()
    (added,) = Worker.started
    clock.now += supervisor.MAX_DELAY
    first.answer(has_started=True)
    supervised.keep_subprocess_alive()
    assert workers(supervised) == [first, added]


def test_failures_of_a_removed_worker_do_not_count(supervised: Supervisor) -> None:
    first, second = workers(supervised)
    third = Worker(None, None)
    supervised.processes.append(third)  # type: ignore[arg-type]
    supervised.processes_num = 3
    third.end()
    supervised.keep_subprocess_alive()
    supervised.handle_ttou()
    first.end()
    supervised.keep_subprocess_alive()
    assert not supervised.should_exit.is_set()
    assert not second.killed


def test_supervise(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[socket.socket] = []

    def run(self: Supervisor) -> None:
        sockets.extend(self.sockets)
        self.exit_code = 3

    monkeypatch.setattr(signal, 'signal', lambda number, handler: None)
    monkeypatch.setattr(Supervisor, 'run', run)
    config = uvicorn.Config('app', port=0, workers=2, log_config=None)
    assert supervisor.supervise(config) == 3
    assert [sock.fileno() for sock in sockets] == [-1]


@pytest.mark.parametrize('has_supervisor', [True, False])
def test_worker_follows_its_supervisor(
    monkeypatch: pytest.MonkeyPatch, has_supervisor: bool
) -> None:
    calls: list[Any] = []
    parent = SimpleNamespace(join=lambda: calls.append('join'))
    monkeypatch.setattr(
        multiprocessing, 'parent_process', lambda: parent if has_supervisor else None
    )
    monkeypatch.setattr(os, 'kill', lambda pid, number: calls.append(number))
    monkeypatch.setattr(os, '_exit', calls.append)
    monkeypatch.setattr(time, 'sleep', calls.append)
    before = {*threading.enumerate()}
    app = supervisor.worker_app()
    for thread in {*threading.enumerate()} - before:
        thread.join()
    assert callable(app)
    assert calls == (['join', signal.SIGTERM, 15, 1] if has_supervisor else [])


class FailingServer(Server):
    """The service, with workers that fail to start while the file `failing` exists."""

    def __init__(self, folder: Path, *options: str) -> None:
        os.environ['FAIL_WHILE'] = str(folder / 'failing')
        super().__init__(folder, *options, program=('tests.cli.failing_start',))

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def test_failing_worker_stops_no_other(tmp_path: Path) -> None:
    failing = tmp_path / 'failing'
    with FailingServer(tmp_path, '--workers', '2') as server:
        failing.touch()
        os.kill(server.workers[0], signal.SIGKILL)
        server.logged('failed to start; next attempt in 1.0 s')
        assert server.get('/healthz/live').status == 200
        failing.unlink()
        server.logged('Application startup complete', 3)
        assert server.stop() == 0


def test_stop_during_a_reload(tmp_path: Path) -> None:
    """SIGTERM is handled while the first of the old workers completes an upload."""
    with (
        Server(tmp_path, '--workers', '2') as server,
        contextlib.ExitStack() as uploads,
    ):
        server.on_each_worker(
            lambda: uploads.enter_context(
                server.uploading('Content-Length: 1000', b'part')
            )
        )
        os.kill(server.pid, signal.SIGHUP)
        server.logged('Shutting down')
        os.kill(server.pid, signal.SIGTERM)
        server.logged('Received SIGTERM')
        assert 'Finished server process' not in server.log
        uploads.close()
        assert server.wait() == 0
        assert len(server.logged('Application startup complete')) == 3
        assert len(server.logged('Finished server process')) == 3


def test_service_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / 'failing').touch()
    server = FailingServer(tmp_path, '--workers', '2')
    assert server.wait() == 3
    assert 'no worker could start' in server.log


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    port = '--port', str(free_port())
    with Server(tmp_path, *port, '--workers', '2') as server:
        workers = server.workers
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        with Server(tmp_path, *port) as successor:
            assert successor.get('/healthz/live').status == 200
        until(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in workers))
