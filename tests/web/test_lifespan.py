from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.events.hub import Hub
from asgilook.store import Store
from asgilook.web.lifespan import Draining, Lifespan

from ..servers import HOST, Server


class Part:
    """A component that records its starts and stops, and fails on demand."""

    def __init__(self, name: str, calls: list[str], fails: str = '') -> None:
        self._name = name
        self._calls = calls
        self._fails = fails

    async def start(self) -> None:
        self._record('start')

    async def stop(self) -> None:
        self._record('stop')

    def _record(self, what: str) -> None:
        self._calls.append(f'{what} {self._name}')
        if self._fails == what:
            raise OSError(f'{what} {self._name}')


async def test_lifespan_stops_in_reverse_order_and_starts_again() -> None:
    calls: list[str] = []
    lifespan = Lifespan(Part('a', calls), Part('b', calls))
    for _ in range(2):
        await lifespan.process_startup({}, {})
        await lifespan.process_shutdown({}, {})
        assert calls == ['start a', 'start b', 'stop b', 'stop a']
        calls.clear()


@pytest.mark.parametrize(
    ('number', 'expected'),
    [
        (0, ['start a']),
        (1, ['start a', 'start b', 'stop a']),
        (2, ['start a', 'start b', 'start c', 'stop b', 'stop a']),
    ],
)
async def test_failing_start_stops_what_has_started(
    number: int, expected: list[str]
) -> None:
    calls: list[str] = []
    parts = [Part(name, calls) for name in 'abc']
    parts[number] = Part('abc'[number], calls, 'start')
    lifespan = Lifespan(*parts)
    with pytest.raises(OSError, match='start'):
        await lifespan.process_startup({}, {})
    assert calls == expected
    await lifespan.process_shutdown({}, {})
    assert calls == expected


async def test_failing_stop_leaves_nothing_running() -> None:
    calls: list[str] = []
    lifespan = Lifespan(Part('a', calls), Part('b', calls, 'stop'))
    await lifespan.process_startup({}, {})
    with pytest.raises(OSError, match='stop b'):
        await lifespan.process_shutdown({}, {})
    assert calls[-2:] == ['stop b', 'stop a']


def test_service_whose_last_start_fails_stops_the_others(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[object] = []
    connected: list[Any] = []

    def recording(kind: Any) -> None:
        original = kind.stop

        async def stop(self: Any) -> None:
            stopped.append(kind)
            await original(self)

        monkeypatch.setattr(kind, 'stop', stop)

    async def fail(hub: Hub) -> None:
        raise OSError('no hub')

    for kind in (Store, Draining, Hub):
        recording(kind)
    monkeypatch.setattr(Hub, 'start', fail)
    config.create_redis_pool = connected.append  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match='no hub'):
        TestClient(create_app(config)).simulate_get('/images')
    assert stopped == [Draining, Store]
    assert connected == []


@contextlib.contextmanager
def handlers(handler: Any) -> Any:
    """Handle the signals like a server does, and restore them afterwards."""
    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[Draining]:
    """Return a `Draining` between its start and its stop."""
    draining = Draining()
    await draining.start()
    assert not draining.is_draining
    yield draining
    await draining.stop()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
async def test_draining_is_set_by_a_signal(number: signal.Signals) -> None:
    heard: list[int] = []

    def handler(number: int, frame: Any) -> None:
        heard.append(number)

    with handlers(handler):
        async with started() as draining:
            waiting = asyncio.create_task(draining.wait())
            await asyncio.sleep(0)
            os.kill(os.getpid(), number)
            async with asyncio.timeout(60):
                await waiting
            assert draining.is_draining
            assert heard == [number]
        assert signal.getsignal(number) is handler


async def test_draining_is_set_by_stop_and_reset_by_start() -> None:
    async with started() as draining:
        waiting = asyncio.create_task(draining.wait())
        await asyncio.sleep(0)
        await draining.stop()
        await waiting
        assert draining.is_draining
        await draining.start()
        assert not draining.is_draining


async def test_draining_keeps_the_default_action() -> None:
    with handlers(signal.SIG_DFL):
        async with started():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_draining_outside_the_main_thread() -> None:
    async def main() -> None:
        async with started() as draining:
            assert signal.getsignal(signal.SIGTERM) is handler
        drained.append(draining.is_draining)

    handler: Any = divmod
    drained: list[bool] = []
    with handlers(handler):
        thread = threading.Thread(target=asyncio.run, args=[main()])
        thread.start()
        thread.join()
    assert drained == [True]


def test_draining_below_a_later_handler() -> None:
    """A handler installed later stays, and may call one whose loop is closed."""
    heard: list[str] = []
    found: list[Any] = []

    def first(number: int, frame: Any) -> None:
        heard.append('first')

    def later(number: int, frame: Any) -> None:
        heard.append('later')
        found[0](number, frame)

    async def main() -> None:
        async with started():
            found.append(signal.signal(signal.SIGTERM, later))

    with handlers(first):
        asyncio.run(main())
        assert signal.getsignal(signal.SIGTERM) is later
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ['later', 'first']


@pytest.mark.integration
@pytest.mark.parametrize(
    ('program', 'exit_code'),
    [(('asgilook',), 0), (('uvicorn', 'asgilook.asgi:app'), -signal.SIGTERM)],
)
def test_server_ends_an_event_stream(
    tmp_path: Path, program: tuple[str, ...], exit_code: int
) -> None:
    with Server(tmp_path, program=program) as server:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request('GET', '/events')
            with connection.getresponse() as response:
                assert response.status == 200
                assert server.stop() == exit_code
                response.read()
