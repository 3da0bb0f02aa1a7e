"""Start and stop of the service."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from typing import Any, Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, Any], Any]


class Component(Protocol):
    """A part of the service that is started and stopped, any number of times."""

    async def start(self) -> None:
        """Acquire what it needs, or raise."""

    async def stop(self) -> None:
        """Release it."""


class Lifespan:
    """Falcon middleware that starts components in order, and stops them in reverse.

    If a start fails, the components that have started before it are stopped.
    """

    def __init__(self, *components: Component) -> None:
        self._components = components
        self._started = contextlib.AsyncExitStack()

    async def process_startup(self, scope: Any, event: Any) -> None:
        """Start all components, or none."""
        async with contextlib.AsyncExitStack() as stack:
            for component in self._components:
                await component.start()
                stack.push_async_callback(component.stop)
            self._started = stack.pop_all()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        """Stop all components, even if one of them fails to stop."""
        await self._started.aclose()


class Draining:
    """Whether the service has been asked to stop, so that no new work may begin.

    A server that receives SIGTERM first waits for open requests and only then reports
    the shutdown through the lifespan protocol. To know earlier, `start` installs
    signal handlers in front of the server's own, which are called as before. If no
    server handles signals, only `stop` sets the state. Another `start` resets it.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._handlers: dict[signal.Signals, tuple[Handler, Handler]] = {}

    @property
    def is_draining(self) -> bool:
        """Whether the service has been asked to stop."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return once the service has been asked to stop."""
        await self._event.wait()

    async def start(self) -> None:
        """Install the signal handlers, which only the main thread may do."""
        self._event = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handle_before(number, signal.getsignal(number))

    async def stop(self) -> None:
        """Set the state, and restore the server's signal handlers."""
        self._event.set()
        for number, (handler, previous) in self._handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, previous)
        self._handlers.clear()

    def _handle_before(self, number: signal.Signals, previous: Any) -> None:
        if not callable(previous):
            return  # the default action ends the process immediately
        loop, set_draining = asyncio.get_running_loop(), self._event.set

        def handler(number: int, frame: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is already closed
                loop.call_soon_threadsafe(set_draining)
            previous(number, frame)

        signal.signal(number, handler)
        self._handlers[number] = handler, previous
