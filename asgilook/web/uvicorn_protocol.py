"""The HTTP protocol of `asgilook serve`: a protocol for uvicorn that limits clients.

uvicorn's own protocols have no time or size limit on the head of a request, nor on a
body that continues after its response
(https://github.com/Kludex/uvicorn/issues/157). Its limit on connections rejects every
client as soon as idle connections have reached it, and its shutdown closes idle
connections on which a request may be on its way.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from .connections import (
    MovableTimer,
    ServerConnections,
    max_connections,
    unread_bytes,
)
from .exchange import Exchange
from .framing import BODY, HEAD, NOTHING, FramedProtocol

# Limits on the head of a request, in seconds and bytes. The size is also that of
# trailers and chunk extensions.
HEADER_TIMEOUT = 10.0
MAX_HEADER_SIZE = 64 * 1024

# After an early response, how long the rest of the request body is read and dropped, in
# seconds: a client that is still sending would otherwise see a reset, not the response.
LINGER_TIMEOUT = 10.0

# Minimum rate at which a client reads a response, in bytes per second, and how often it
# is checked, in seconds: in general, and once the server shuts down.
MIN_READ_RATE = 1024
STALL_TIMEOUT = 60.0
SHUTDOWN_STALL_TIMEOUT = 3.0

# At shutdown, how long an idle connection stays open, in seconds: a request may be on
# its way. Its response says `Connection: close`.
DRAIN_TIMEOUT = 1.0


class LimitedProtocol(FramedProtocol):
    """Protocol that limits slow clients and endless requests."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        # NOTE(state): kept on uvicorn's `ServerState`, which all connections of one
        # server share: a process can run several servers.
        self._shared: ServerConnections = vars(self.server_state).setdefault(
            'asgilook', ServerConnections()
        )
        # For the client to send a request, and to read a response.
        self._limit = MovableTimer(self.loop, lambda: self.transport.close())
        self._stall = MovableTimer(self.loop, self._on_stall)
        self._unread = 0
        self._keep_alive_timeout = config.timeout_keep_alive
        self._is_kept_alive = False
        self._header_size = 0
        self._has_progress = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's
        """Wait for the first request; above the limit, close an idle connection."""
        super().connection_made(transport)
        self._shared.add_idle(self)
        if len(self.server_state.connections) > max_connections():
            self._shared.close_longest_idle()
        self._limit.set(DRAIN_TIMEOUT if self._shared.is_draining else HEADER_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._shared.discard_idle(self)
        self._limit.cancel()
        self._stall.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; limit headers, trailers and all else that is not content."""
        self._has_progress = False
        super().data_received(data)
        if self._has_progress:
            self._header_size = 0
        elif self.reading is not NOTHING and not self._is_input_over:
            self._header_size += len(data)
            if self._header_size > MAX_HEADER_SIZE:
                self.transport.close()
        # NOTE(limits): not for any data, as a client could send empty lines for ever.
        if self.reading is HEAD and (self._is_kept_alive or not self._limit.is_set):
            self._is_kept_alive = False
            self._limit.set(HEADER_TIMEOUT)

    def on_headers_complete(self) -> None:
        """End the head of a request; the app has its own limits on the body."""
        super().on_headers_complete()
        if self.reading is BODY:
            self._shared.discard_idle(self)
            self._limit.unset()
            self._is_kept_alive = False
            if self._shared.is_draining:
                self.unanswered[-1].keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass content on."""
        self._has_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; keep the connection if its response is complete as well."""
        super().on_message_complete()
        self._has_progress = True
        if not self.unanswered and not self._shared.is_draining:
            self._keep_alive()

    def end_response(self, exchange: Exchange) -> None:
        """End a response; the rest of the request's body is read and dropped."""
        super().end_response(exchange)
        if self.unanswered or self.transport.is_closing():
            return
        self._shared.add_idle(self)
        if self._shared.is_draining:
            self._limit.set(DRAIN_TIMEOUT)
        elif exchange.more_body:
            self._limit.set(LINGER_TIMEOUT)
        elif self.reading is NOTHING:
            self._keep_alive()

    def _keep_alive(self) -> None:
        self._is_kept_alive = True
        self._limit.set(self._keep_alive_timeout)

    def pause_writing(self) -> None:
        """Limit the time for which the client reads too little."""
        super().pause_writing()
        self._unread = unread_bytes(self.transport)
        self._stall.set(STALL_TIMEOUT)

    def _on_stall(self) -> None:
        timeout = SHUTDOWN_STALL_TIMEOUT if self._shared.is_draining else STALL_TIMEOUT
        unread = unread_bytes(self.transport)
        if self._unread - unread < MIN_READ_RATE * timeout:
            self.transport.abort()
        else:
            self._unread = unread
            self._stall.set(timeout)

    def resume_writing(self) -> None:
        """Lift the limit: the client reads."""
        self._stall.unset()
        super().resume_writing()

    def shutdown(self) -> None:
        """Close the connection after the next response, which must come soon."""
        self._shared.is_draining = True
        if not self.unanswered:
            self._limit.set(DRAIN_TIMEOUT)
        elif not self.unanswered[-1].has_started:
            self.unanswered[-1].keep_alive = False
        if self._stall.is_set:
            self._stall.set(SHUTDOWN_STALL_TIMEOUT)
