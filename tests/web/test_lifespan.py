from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asgilook.web.lifespan import Draining

from ..servers import HOST, Server


@contextlib.contextmanager
def handlers(handler: Any) -> Any:
    """Handle the signals like a server does; give them back afterwards."""
    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def live(scenario: Callable[[Draining], Awaitable[None]]) -> Draining:
    """Run a scenario between startup and shutdown."""
    draining = Draining()

    async def main() -> None:
        await draining.process_startup({}, {})
        assert not draining.is_draining
        await scenario(draining)
        await draining.process_shutdown({}, {})

    asyncio.run(main())
    return draining


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_draining_is_set_by_a_signal(number: signal.Signals) -> None:
    heard: list[int] = []

    async def scenario(draining: Draining) -> None:
        waiting = asyncio.create_task(draining.wait())
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await waiting
        assert draining.is_draining
        assert heard == [number]

    def handler(number: int, frame: Any) -> None:
        heard.append(number)

    with handlers(handler):
        live(scenario)
        assert signal.getsignal(number) is handler


def test_draining_is_set_by_shutdown_and_unset_by_startup() -> None:
    async def scenario(draining: Draining) -> None:
        waiting = asyncio.create_task(draining.wait())
        await asyncio.sleep(0)
        await draining.process_shutdown({}, {})
        await waiting
        assert draining.is_draining
        await draining.process_startup({}, {})
        assert not draining.is_draining

    assert live(scenario).is_draining


def test_draining_leaves_alone_what_no_server_handles() -> None:
    async def scenario(draining: Draining) -> None:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    with handlers(signal.SIG_DFL):
        live(scenario)


def test_draining_outside_the_main_thread() -> None:
    async def scenario(draining: Draining) -> None:
        assert handler is signal.getsignal(signal.SIGTERM)

    handler: Any = divmod
    drained: list[bool] = []
    with handlers(handler):
        thread = threading.Thread(
            target=lambda: drained.append(live(scenario).is_draining)
        )
        thread.start()
        thread.join()
    assert drained == [True]


def test_draining_beneath_a_later_handler() -> None:
    """Who came later keeps the signal, and may call the handler of an ended loop."""
    heard: list[str] = []
    found: list[Any] = []

    def first(number: int, frame: Any) -> None:
        heard.append('first')

    def later(number: int, frame: Any) -> None:
        heard.append('later')
        found[0](number, frame)

    async def scenario(draining: Draining) -> None:
        found.append(signal.signal(signal.SIGTERM, later))

    with handlers(first):
        live(scenario)
        assert signal.getsignal(signal.SIGTERM) is later
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ['later', 'first']


@pytest.mark.parametrize('program', [('asgilook',), ('uvicorn', 'asgilook.asgi:app')])
def test_server_ends_an_event_stream(tmp_path: Path, program: tuple[str, ...]) -> None:
    with Server(tmp_path, program=program) as server:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
        with contextlib.closing(connection):
            connection.request('GET', '/events')
            with connection.getresponse() as response:
                assert response.status == 200
                assert server.stop() == -signal.SIGTERM
                response.read()
