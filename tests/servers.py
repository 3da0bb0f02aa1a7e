"""Real servers for the tests: the service, a Redis, and uvicorn in this process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, TypeVar

import hiredis
import pytest
import uvicorn

import asgilook
from asgilook.web.uvicorn_protocol import LimitedProtocol

T = TypeVar('T')

HOST = '127.0.0.1'
NO_REDIS = f'redis://{HOST}:1'  # nothing listens on tcpmux

# Directory where `python -m asgilook` finds the package that these tests import.
ROOT = Path(asgilook.__file__).parent.parent

# Must never appear in a log, whatever was done to the server.
FAULTS = ('Traceback', 'was destroyed', 'never retrieved', 'ResourceWarning')


def until(condition: Callable[[], T], seconds: float = 60) -> T:
    """Return the first true value of `condition()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f'still false after {seconds} s'
        time.sleep(0.01)
    return result


def require(*programs: str) -> str:
    """Return the path of the first of these programs that is installed.

    If none is, skip the test, or fail in CI. A package may have installed it beside
    this Python, which need not be on the path.
    """
    beside = os.path.dirname(sys.executable)
    for program in programs:
        path = shutil.which(program) or shutil.which(program, path=beside)
        if path is not None:
            return path
    message = f'{" or ".join(programs)} is not installed'
    if os.environ.get('CI') == 'true':
        pytest.fail(message)
    pytest.skip(message)


def unprivileged() -> tuple[str, ...]:
    """Return a command that starts a program to which file permissions apply."""
    if os.geteuid() != 0:
        return ()
    return require('setpriv'), '--bounding-set', '-dac_override,-dac_read_search'


def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run Python until it exits, with these settings of the service."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=_environ(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _environ(settings: dict[str, Any]) -> dict[str, str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith('ASGI_LOOK_')}
    environ['PYTHONDEVMODE'] = '1'
    settings = {'redis_host': NO_REDIS, **settings}
    return environ | {f'ASGI_LOOK_{k.upper()}': str(v) for k, v in settings.items()}


# Limits of a service on a machine so busy that its database or object store seems slow.
LONG_LIMITS = {
    'index.engine.STATEMENT_TIMEOUT': 30,
    'index.engine.TIMEOUT': 60,
    'index.engine.CHECKOUT_TIMEOUT': 90,
    'resources.probes.PROBE_TIMEOUT': 30,
    'storage.s3.SHORT_TIMEOUT': 30,
    'storage.s3.TIMEOUT': 60,
    'storage.s3.LONG_TIMEOUT': 90,
}


class Process:
    """A program in its own process group, with its output in a log file."""

    ready = ''
    processes = 1

    def __init__(
        self, folder: Path, *command: str, environ: dict[str, str] | None = None
    ) -> None:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=ROOT,
                start_new_session=True,
            )
        self._log = Path(log.name)

    def __enter__(self) -> Self:
        try:
            self.logged(self.ready, self.processes)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors='replace')

    def log_lines(self, word: str) -> list[str]:
        """Return the lines with a word, except the summary of the settings."""
        return [
            line
            for line in self.log.splitlines()
            if word in line and '; index ' not in line
        ]

    def logged(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until the log contains `pattern` `count` times; return the matches."""

        def matches() -> list[str]:
            found = re.findall(pattern, self.log)
            if len(found) >= count:
                return found
            assert self._popen.poll() is None, self.log
            return []

        return until(matches)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait up to 60 s for the end; return the exit code."""
        try:
            self._popen.send_signal(number)
            return self._popen.wait(60)
        finally:
            self.kill()

    def wait(self) -> int:
        """Wait up to 60 s for the end; return the exit code."""
        return self._popen.wait(60)

    def kill(self) -> None:
        """Kill all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


@contextlib.contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Freeze processes."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            until(partial(_is_frozen, pid))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _is_frozen(pid: int) -> bool:
    return ') T ' in Path(f'/proc/{pid}/stat').read_text()


@dataclasses.dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: http.client.HTTPMessage = dataclasses.field(repr=False)
    body: bytes = dataclasses.field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def hit(self) -> bool:
        """Whether it came from a cache; the header must be there."""
        return {'Hit': True, 'Miss': False}[self.headers['X-ASGILook-Cache']]

    @property
    def is_problem(self) -> bool:
        """Whether it is a complete problem description of the same status."""
        media_type = self.headers['Content-Type']
        return media_type == 'application/problem+json' and (
            self.json['status'] == self.status and bool(self.json['detail'])
        )


class Server(Process):
    """The service on a free port, with a storage folder below `folder`.

    A second one with the same `folder` shares the storage. `limits` are time limits of
    the service by module and name, in seconds, for tests that wait for one.
    """

    ready = 'Application startup complete'

    def __init__(
        self,
        folder: Path,
        *options: str,
        program: tuple[str, ...] = ('asgilook',),
        wrapper: tuple[str, ...] = (),
        limits: Mapping[str, float] | None = None,
        **settings: Any,
    ) -> None:
        self.storage = folder / 'images'
        settings = {'storage_path': self.storage, **settings}
        python = *wrapper, sys.executable
        if limits:
            changed = (f'{name}={seconds}' for name, seconds in limits.items())
            program = 'tests.other_limits', *changed
        command = [*python, '-m', *program, '--port', '0', *options]
        super().__init__(folder, *command, environ=_environ(settings))
        self.processes = int(options[-1]) if '--workers' in options else 1

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        log = self.log
        assert not any(fault in log for fault in FAULTS), log

    @cached_property
    def port(self) -> int:
        return int(self.logged(rf'running on http://{HOST}:(\d+)')[0])

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers, the newest first."""
        started = self.logged(r'Started server process \[(\d+)\]', self.processes)
        return [int(pid) for pid in reversed(started)][: self.processes]

    @property
    def files(self) -> list[str]:
        """Names of everything in the storage folder."""
        return os.listdir(self.storage)

    def on_each_worker(self, ask: Callable[[], T]) -> list[T]:
        """Call `ask` once for each worker, while the others are frozen."""
        answers = []
        for worker in self.workers:
            with paused(*{*self.workers} - {worker}):
                answers.append(ask())
        return answers

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request on a new connection, with `path` exactly as it is."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        named = {name.replace('_', '-'): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, named)
            with connection.getresponse() as response:
                data = response.read()
        return Answer(response.status, response.headers, data)

    def get(self, path: str, **headers: str) -> Answer:
        """Send a GET."""
        return self.ask('GET', path, **headers)

    def upload(self, picture: bytes, **headers: str) -> Any:
        """Upload a picture; return its JSON."""
        answer = self.ask('POST', '/images', picture, **headers)
        assert answer.status == 201, answer
        return answer.json

    def images(self) -> Any:
        """Return the JSON of all images."""
        answer = self.get('/images')
        assert answer.status == 200
        return answer.json

    @contextlib.contextmanager
    def uploading(self, framing: str, part: bytes) -> Iterator[socket.socket]:
        """Send a request head, and part of a body once the service waits for it."""
        with socket.create_connection((HOST, self.port), timeout=60) as client:
            client.sendall(
                f'POST /images HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n'
                'Expect: 100-continue\r\n\r\n'.encode()
            )
            assert client.recv(100) == b'HTTP/1.1 100 Continue\r\n\r\n'
            client.sendall(part)
            yield client


def read_answer(client: socket.socket) -> Answer | None:
    """Read one response; return None if the connection ends without one."""
    with http.client.HTTPResponse(client) as response:
        try:
            response.begin()
        except ConnectionError:
            return None
        return Answer(response.status, response.headers, response.read())


class RedisServer(Process):
    """A Redis without persistence, on a free port or on the given one."""

    ready = 'Ready to accept connections'

    def __init__(self, folder: Path, port: int = 0, options: str = '') -> None:
        self.port = port or free_port()
        command = f'--bind {HOST} --port {self.port} --appendonly no {options}'.split()
        where = '--dir', str(folder), '--save', ''
        super().__init__(folder, require('redis-server'), *command, *where)
        self.url = f'redis://{HOST}:{self.port}'

    def command(self, *words: str) -> Any:
        """Send a command; return its reply, even if that is an error."""
        reader = hiredis.Reader(encoding='utf-8')
        with socket.create_connection((HOST, self.port), timeout=60) as connection:
            connection.sendall(' '.join(words).encode() + b'\r\n')
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65536) or b'-hung up\r\n')
        return reply

    @property
    def keys(self) -> list[str]:
        return sorted(self.command('KEYS', '*'))


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port now."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def own_ports(first: int) -> Iterator[int]:
    """Cycle through ports of this test process, of 5,500 for all of them.

    Below 32,768, no outgoing connection has any of them. Chromium connects to all above
    10,080.
    """
    worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:]) % 10
    own = range(first + 550 * worker, first + 550 * worker + 550)
    return itertools.cycle(random.sample(own, len(own)))


_ports = own_ports(11_000)


def free_port() -> int:
    """Return a port for a server, which may be started on it again and again."""
    return next(port for port in _ports if is_free(port))


@contextlib.asynccontextmanager
async def serving(
    app: Any, **options: Any
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """Run an ASGI app on the service's own protocol; yield the server and its port."""
    settings = {'http': LimitedProtocol, 'ws': 'none', 'lifespan': 'off', **options}
    config = uvicorn.Config(app, port=0, log_config=None, **settings)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        try:
            yield server, server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            await task
