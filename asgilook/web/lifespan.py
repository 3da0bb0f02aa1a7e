"""The end of the service, known as soon as it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, Any], Any]


class Draining:
    """Falcon middleware without requests: tells that no new work is to be begun.

    A server that is told to end waits for the requests under way before it says so to
    the app, by the lifespan's shutdown. So this is set by the signals themselves: at
    startup it steps before the server's handlers of SIGINT and SIGTERM, which are
    called as before. It is set by the lifespan's shutdown as well, where no server
    handles signals, and unset by another startup.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._handlers: dict[signal.Signals, tuple[Handler, Handler]] = {}

    @property
    def is_draining(self) -> bool:
        """Whether the end has been asked for."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return once the end has been asked for."""
        await self._event.wait()

    async def process_startup(self, scope: Any, event: Any) -> None:
        """Listen to signals, which only the main thread may do."""
        self._event = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._step_before(number, signal.getsignal(number))

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        """Tell those who wait, and give the signals back."""
        self._event.set()
        for number, (handler, previous) in self._handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, previous)
        self._handlers.clear()

    def _step_before(self, number: signal.Signals, previous: Any) -> None:
        if not callable(previous):
            return  # the system's own handler ends the process at once
        loop, begin = asyncio.get_running_loop(), self._event.set

        def handler(number: int, frame: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(begin)
            previous(number, frame)

        signal.signal(number, handler)
        self._handlers[number] = handler, previous
