"""What is added to uvicorn's HTTP protocol: limits on clients, and one write less.

uvicorn has no limit on the time or size of a request's head, nor on a body that goes
on after its answer; its limit on connections refuses everyone once idle ones have
reached it; and it sends the head of a response and its body in two writes,
which cost more than all the rest of a small response.
"""

from __future__ import annotations

import asyncio
import resource
from email.utils import formatdate
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import problem_response

# A request's head must be there after so many seconds, and within so many bytes.
HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024

# What a client may go on sending after it was refused, so that it reads the answer
# instead of a reset connection.
LINGER_SECONDS = 10.0

# For so long a client may read nothing of what is ready for it, and for so long once
# the server is to end.
STALL_SECONDS = 60.0
LAST_SECONDS = 3.0


# Open files of a process, where the system lets it have so many.
MOST_FILES = 65536


def raise_file_limit() -> None:
    """Have as many open files as the system allows: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def most_connections() -> int:
    """Return how many connections leave room for the files of requests."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, for clients that are slow or never end."""

    # All connections of the process that wait for a request, the longest first.
    _idle: ClassVar[dict[LimitedProtocol, None]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for the first request; where there are too many, let an idle one go."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._idle[self] = None
        if len(self.connections) > most_connections():
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.transport.close()
        self._limit: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._set_limit(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        self._idle.pop(self, None)
        self._unset_limit()
        self._unset_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that has not come all at once."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.close()
            elif self._limit is None:
                self._set_limit(HEAD_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the form of every other error."""
        problem = problem_response(400, msg, headers={'connection': 'close'})
        head = ['HTTP/1.1 400 Bad Request', f'date: {formatdate(usegmt=True)}']
        head += [f'{name}: {value}' for name, value in problem.headers.items()]
        self.transport.write('\r\n'.join([*head, '\r\n']).encode() + problem.body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Start a request's head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """End a request's head; the app takes care of its body."""
        self._in_head = False
        self._idle.pop(self, None)
        self._unset_limit()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._unset_limit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer; what is left of the body is read for a while, and dropped."""
        if self.cycle.more_body:
            self._set_limit(LINGER_SECONDS)
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._idle[self] = None

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._set_stall(STALL_SECONDS)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        self._unset_stall()
        super().resume_writing()

    def shutdown(self) -> None:
        """End, without those who do not read."""
        super().shutdown()
        if self._stall is not None:
            self._set_stall(LAST_SECONDS)

    def _set_stall(self, seconds: float) -> None:
        self._unset_stall()
        self._stall = self.loop.call_later(seconds, self.transport.abort)

    def _unset_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _set_limit(self, seconds: float) -> None:
        self._unset_limit()
        self._limit = self.loop.call_later(seconds, self.transport.close)

    def _unset_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class OneWrite:
    """A transport that keeps the first of two writes for the second.

    The first waits until the event loop's next round at most.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write `data` with what was kept, or keep it."""
        if self._kept is None:
            self._kept = data
            self._loop.call_soon(self._flush)
        else:
            kept, self._kept = self._kept, None
            self._transport.writelines((kept, data))

    def close(self) -> None:
        """Write what was kept, and close the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._transport.write(kept)
