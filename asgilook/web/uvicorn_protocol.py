"""uvicorn's HTTP protocol with limits on clients, and one write per small response.

uvicorn has no time or size limit on the head of a request, nor on a body that continues
after its response (https://github.com/Kludex/uvicorn/issues/157). Its limit on
connections rejects every client as soon as idle connections have reached it.

NOTE(uvicorn): this overrides methods and attributes of `HttpToolsProtocol` that are not
documented. setup.py therefore pins uvicorn below its next minor release, and
tests/web/test_uvicorn_hooks.py fails when one of them disappears.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .connections import IdleConnections, OneWrite, max_connections
from .problems import problem_response

# Limits on the head of a request, in seconds and bytes.
HEADER_TIMEOUT = 10.0
MAX_HEADER_SIZE = 64 * 1024

# After an early response, how long the rest of the request body is read and dropped, in
# seconds: a client that is still sending would otherwise see a reset, not the response.
LINGER_TIMEOUT = 10.0

# How long a client may read nothing of a response, in seconds, and how long once the
# server shuts down.
STALL_TIMEOUT = 60.0
SHUTDOWN_STALL_TIMEOUT = 3.0


class LimitedProtocol(HttpToolsProtocol):
    """Protocol on httptools that limits slow clients and endless requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # NOTE(state): kept on uvicorn's `ServerState`, which all connections of one
        # server share: a process can run several servers.
        self._idle: IdleConnections = vars(self.server_state).setdefault(
            'asgilook_idle', IdleConnections()
        )
        self._limit: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._header_size = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for the first request; above the limit, close an idle connection."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._idle.add(self)
        if len(self.connections) > max_connections():
            self._idle.close_longest()
        self._set_limit(HEADER_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._idle.discard(self)
        self._unset_limit()
        self._unset_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; limit a head that has not arrived in one segment."""
        super().data_received(data)
        if self._in_head:
            self._header_size += len(data)
            if self._header_size > MAX_HEADER_SIZE:
                self.transport.close()
            elif self._limit is None:
                self._set_limit(HEADER_TIMEOUT)

    def send_400_response(self, msg: str) -> None:
        """Reject malformed HTTP with problem details, as every other error."""
        problem = problem_response(
            400, msg, headers={'date': formatdate(usegmt=True), 'connection': 'close'}
        )
        headers = [f'{name}: {value}' for name, value in problem.headers.items()]
        head = '\r\n'.join(['HTTP/1.1 400 Bad Request', *headers, '\r\n'])
        self.transport.write(head.encode() + problem.body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        super().on_message_begin()
        self._in_head = True
        self._header_size = 0

    def on_headers_complete(self) -> None:
        """End the head of a request; the app has its own limits on the body."""
        self._in_head = False
        self._idle.discard(self)
        self._unset_limit()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._unset_limit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a response; the rest of the request's body is read and dropped."""
        if self.cycle.more_body:
            self._set_limit(LINGER_TIMEOUT)
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._idle.add(self)

    def pause_writing(self) -> None:
        """Limit the time for which the client reads nothing."""
        super().pause_writing()
        self._set_stall(STALL_TIMEOUT)

    def resume_writing(self) -> None:
        """Lift the limit: the client reads."""
        self._unset_stall()
        super().resume_writing()

    def shutdown(self) -> None:
        """Finish the response in progress, unless the client does not read it."""
        super().shutdown()
        if self._stall is not None:
            self._set_stall(SHUTDOWN_STALL_TIMEOUT)

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
