"""Connections of a server: their number, shared state, flow control and timers."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import resource
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .uvicorn_protocol import LimitedProtocol

# Limit on open files that a process requests from the system.
MAX_OPEN_FILES = 65536


def raise_file_limit() -> None:
    """Raise the limit on open files as far as allowed: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else hard
    limit = min(limit, MAX_OPEN_FILES)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def max_connections() -> int:
    """Return how many connections leave enough descriptors for the files of requests.

    Three quarters of the limit on open files.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4


def unread_bytes(transport: asyncio.Transport) -> int:
    """Return how much of what was sent the client has not received yet, in bytes."""
    count = transport.get_write_buffer_size()
    sock = transport.get_extra_info('socket')
    if sock is not None:
        with contextlib.suppress(OSError):  # such as a TLS socket that is closed
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
            count += int.from_bytes(queued, sys.byteorder)
    return count


class ServerConnections:
    """What the connections of one server share."""

    def __init__(self) -> None:
        self.is_draining = False
        # Connections that wait for a request, the longest idle first.
        self._idle: dict[LimitedProtocol, None] = {}

    def add_idle(self, connection: LimitedProtocol) -> None:
        """Add a connection that has begun to wait for a request."""
        self._idle[connection] = None

    def discard_idle(self, connection: LimitedProtocol) -> None:
        """Remove a connection that is not idle anymore."""
        self._idle.pop(connection, None)

    def close_longest_idle(self) -> None:
        """Close the connection that has been idle for the longest time."""
        connection = next(iter(self._idle))
        self.discard_idle(connection)
        connection.transport.close()


class FlowControl:
    """Pauses reading from a connection, and lets apps wait until they may write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.is_write_paused = False
        self._transport = transport
        self._is_reading_paused = False
        self._can_write = asyncio.Event()

    def pause_reading(self) -> None:
        """Stop reading: data of the client remains in the system's buffer."""
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        self.is_write_paused = True
        self._can_write.clear()

    def resume_writing(self) -> None:
        """End the wait of `drain`."""
        self.is_write_paused = False
        self._can_write.set()

    async def drain(self) -> None:
        """Wait until the client has read enough, or has disconnected."""
        await self._can_write.wait()


class MovableTimer:
    """Calls a function once, at a time that may be moved.

    PERF: requests move it often, so the event loop's timer is kept if the new time is
    later, and is set again when it fires.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._function = function
        self._time: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether the function will be called."""
        return self._time is not None

    def set(self, seconds: float) -> None:
        """Call the function after this time, instead of at any time set before."""
        self._time = time = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= time:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(time, self._check)

    def unset(self) -> None:
        """Do not call the function."""
        self._time = None

    def cancel(self) -> None:
        """Do not call the function, and leave no timer behind."""
        self._time = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self._time is None:
            return
        if self._loop.time() < self._time:
            self._timer = self._loop.call_at(self._time, self._check)
        else:
            self._time = None
            self._function()
