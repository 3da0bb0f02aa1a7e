"""An event loop with a virtual clock, so that tests of timers are exact and fast."""

from __future__ import annotations

import asyncio
import selectors


class _Selector(selectors.DefaultSelector):
    """Advances the clock instead of waiting."""

    now = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or not timeout:
            return ready or super().select(timeout)
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nothing else is left to do.

    Sockets and threads count as nothing: only tests without these can use it, with
    `anyio_backend` returning `VIRTUAL_TIME`.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._virtual.now


VIRTUAL_TIME = 'asyncio', {'loop_factory': VirtualTimeLoop}
