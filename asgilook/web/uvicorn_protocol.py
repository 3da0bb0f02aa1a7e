"""uvicorn's HTTP protocol with limits on clients, and one write per small response.

uvicorn has no time or size limit on the head of a request, nor on a body that continues
after its response (https://github.com/Kludex/uvicorn/issues/157). Its limit on
connections rejects every client as soon as idle connections have reached it, and its
shutdown closes idle connections on which a request may be on its way.

NOTE(uvicorn): this overrides undocumented methods; see framing.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .connections import OneWrite, ServerConnections, max_connections
from .framing import BODY, HEAD, NOTHING, FramedProtocol

# Limits on the head of a request, in seconds and bytes. The size is also that of
# trailers and chunk extensions.
HEADER_TIMEOUT = 10.0
MAX_HEADER_SIZE = 64 * 1024

# After an early response, how long the rest of the request body is read and dropped, in
# seconds: a client that is still sending would otherwise see a reset, not the response.
LINGER_TIMEOUT = 10.0

# How long a client may read nothing of a response, in seconds, and how long once the
# server shuts down.
STALL_TIMEOUT = 60.0
SHUTDOWN_STALL_TIMEOUT = 3.0

# At shutdown, how long an idle connection stays open, in seconds: a request may be on
# its way. Its response says `Connection: close`.
DRAIN_TIMEOUT = 1.0


class LimitedProtocol(FramedProtocol):
    """Protocol that limits slow clients and endless requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # NOTE(state): kept on uvicorn's `ServerState`, which all connections of one
        # server share: a process can run several servers.
        self._shared: ServerConnections = vars(self.server_state).setdefault(
            'asgilook', ServerConnections()
        )
        self._limit: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._header_size = 0
        self._has_progress = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for the first request; above the limit, close an idle connection."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._shared.add_idle(self)
        if len(self.connections) > max_connections():
            self._shared.close_longest_idle()
        self._set_limit(DRAIN_TIMEOUT if self._shared.is_draining else HEADER_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._shared.discard_idle(self)
        self._unset_limit()
        self._unset_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; limit heads, trailers and whatever else is not content."""
        self._has_progress = False
        super().data_received(data)
        if self._has_progress:
            self._header_size = 0
        elif self.reading is not NOTHING:
            self._header_size += len(data)
            if self._header_size > MAX_HEADER_SIZE:
                self.transport.close()
        if self.reading is HEAD and self._limit is None:
            self._set_limit(HEADER_TIMEOUT)

    def on_headers_complete(self) -> None:
        """End the head of a request; the app has its own limits on the body."""
        super().on_headers_complete()
        if self.reading is BODY:
            self._shared.discard_idle(self)
            if self._limit is not None:
                self._unset_limit()
            if self._shared.is_draining:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass content on."""
        self._has_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self.reading is BODY:
            self._has_progress = True
            if self.cycle.response_complete and not self._shared.is_draining:
                self._unset_limit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a response; the rest of the request's body is read and dropped."""
        is_incomplete = self.unanswered[0].more_body
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._shared.add_idle(self)
            if self._shared.is_draining:
                self._set_limit(DRAIN_TIMEOUT)
            elif is_incomplete:
                self._set_limit(LINGER_TIMEOUT)

    def pause_writing(self) -> None:
        """Limit the time for which the client reads nothing."""
        super().pause_writing()
        self._set_stall(STALL_TIMEOUT)

    def resume_writing(self) -> None:
        """Lift the limit: the client reads."""
        self._unset_stall()
        super().resume_writing()

    def shutdown(self) -> None:
        """Announce the end with the next response, and wait for it for a moment."""
        self._shared.is_draining = True
        if not self.unanswered:
            self._set_limit(DRAIN_TIMEOUT)
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False
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
