"""uvicorn's HTTP protocol, kept in step with its client.

uvicorn on httptools loses the framing of a request that offers an upgrade
(https://github.com/Kludex/uvicorn/issues/2722,
https://github.com/MagicStack/httptools/issues/124), adds trailers to the headers, and
responds to malformed data before it has answered earlier requests.

NOTE(uvicorn): this overrides methods and attributes of `HttpToolsProtocol` that are not
documented. setup.py therefore pins uvicorn below its next minor release, and
tests/web/test_uvicorn_hooks.py fails when one of them disappears.
"""

from __future__ import annotations

import enum
from collections import deque
from email.utils import formatdate
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from .problems import problem_response


class Reading(enum.Enum):
    """Part of a request that has begun and not ended yet."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


# PERF: an attribute of an Enum costs more than a global.
NOTHING, HEAD, BODY = Reading


class FramedProtocol(HttpToolsProtocol):
    """Protocol on httptools that answers exactly the requests that were sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reading = NOTHING
        # Requests without a complete response, the oldest first.
        self.unanswered: deque[RequestResponseCycle] = deque()
        self._is_input_over = False
        self._rejection: bytes | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to all requests; uvicorn reports it to the newest."""
        for cycle in self.unanswered:
            _disconnect(cycle)
        # NOTE(memory): after an error, uvicorn keeps the timer and all it refers to.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data, unless what follows is not HTTP or was rejected."""
        if self._is_input_over:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as ex:
            self._continue(memoryview(data)[ex.args[0] :])
        except httptools.HttpParserError:
            self._reject()

    def _continue(self, rest: memoryview) -> None:
        """Parse what follows a head with an offer to upgrade, or `CONNECT`."""
        while True:
            if self.reading is not HEAD:  # CONNECT: what follows may be a tunnel
                self._is_input_over = True
                return
            try:
                self._ignore_upgrade()
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as ex:
                rest = rest[ex.args[0] :]
            except httptools.HttpParserError:
                self._reject()
                return

    def _reject(self) -> None:
        msg = 'Invalid HTTP request received.'
        self.logger.warning(msg)
        self.send_400_response(msg)

    def _ignore_upgrade(self) -> None:
        """Parse a head again without its `Upgrade` (RFC 9110, section 7.8).

        The parser is past the head, and would take the body for another request.
        """
        version = self.parser.get_http_version().encode()
        lines = [b'%s %s HTTP/%s' % (self.parser.get_method(), self.url, version)]
        lines += [
            b'%s: %s' % (name, value)
            for name, value in self.headers
            if name != b'upgrade'
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as before
        self.parser.feed_data(b'\r\n'.join([*lines, b'', b'']))

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        # NOTE(limits): not for any data, as a client could send empty lines for ever.
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self.reading = HEAD

    def on_headers_complete(self) -> None:
        """End the head of a request, and check it."""
        # PERF: called for each request, so what is rare is in methods of its own.
        is_upgrade = self.parser.should_upgrade()
        if is_upgrade and self.parser.get_method() != b'CONNECT':
            return  # the head is parsed again
        if self.expect_100_continue:
            self.expect_100_continue = self.parser.get_http_version() != '1.0'
        if [name for name, _ in self.headers].count(b'host') == 1:
            super().on_headers_complete()
        else:
            self._check_host()
        if is_upgrade:
            self.cycle.keep_alive = False
        self.unanswered.append(self.cycle)
        self.reading = BODY
        # NOTE(trailers): they are added to this list, which no request refers to.
        self.headers = []

    def _check_host(self) -> None:
        """Reject a request without one `Host`, except HTTP/1.0 (RFC 9112, 3.2)."""
        app = self.app
        if self.parser.get_http_version() != '1.0' or b'host' in dict(self.headers):
            self.app = _reject_host
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_message_complete(self) -> None:
        """End a request."""
        if self.reading is BODY:
            self.reading = NOTHING
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a response."""
        self.unanswered.popleft()
        super().on_response_complete()
        if self._rejection is not None:
            self._reject_if_due()

    def send_400_response(self, msg: str) -> None:
        """Reject malformed data, after the responses to earlier requests."""
        self._is_input_over = True
        self._rejection = _bad_request(msg)
        if self.reading is BODY:
            if self.cycle.response_started and not self.pipeline:
                self.transport.close()
                return
            if self.pipeline:
                self.pipeline.popleft()
            _disconnect(self.unanswered.pop())
        self._reject_if_due()

    def _reject_if_due(self) -> None:
        if self._rejection and not self.unanswered and not self.transport.is_closing():
            self.transport.write(self._rejection)
            self.transport.close()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Report to the app that the client of a request is gone."""
    cycle.disconnected = True
    cycle.message_event.set()


def _bad_request(msg: str) -> bytes:
    date = formatdate(usegmt=True)
    headers = {'date': date, 'connection': 'close'}
    problem = problem_response(400, msg, headers=headers)
    lines = [f'{name}: {value}' for name, value in problem.headers.items()]
    head = '\r\n'.join(['HTTP/1.1 400 Bad Request', *lines, '\r\n'])
    return head.encode() + problem.body


async def _reject_host(scope: Any, receive: Any, send: Any) -> None:
    """Serve a request without `Host`, or with more than one (ASGI application)."""
    problem = problem_response(
        400, 'Exactly one Host header is required.', headers={'connection': 'close'}
    )
    headers = problem.asgi_headers()
    await send({'type': 'http.response.start', 'status': 400, 'headers': headers})
    await send({'type': 'http.response.body', 'body': problem.body})
