"""Connections of a server: their number, their shared state, and their writes."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .uvicorn_protocol import LimitedProtocol

# Limit on open files that a process asks the system for.
MAX_OPEN_FILES = 65536


def raise_file_limit() -> None:
    """Raise the limit on open files as far as the system allows: connections count."""
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


class OneWrite:
    """Transport that joins two writes into one: the head of a response and its body.

    The first write waits at most until the next round of the event loop.
    """

    # PERF: two writes cost more than everything else in a small response.

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: bytes | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write `data` together with the pending write, or make it the pending one."""
        if self._pending is None:
            self._pending = data
            self._loop.call_soon(self._flush)
            return
        pending, self._pending = self._pending, None
        if not self._transport.is_closing():
            self._transport.writelines((pending, data))

    def close(self) -> None:
        """Write what is pending, then close the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pending, self._pending = self._pending, None
        # NOTE(uvloop): its transports raise an error when the client has hung up.
        if pending is not None and not self._transport.is_closing():
            self._transport.write(pending)
