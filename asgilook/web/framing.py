"""HTTP/1.1 connections: requests and responses in step, on httptools.

uvicorn's own protocol on httptools loses the framing of a request that offers an
upgrade (https://github.com/Kludex/uvicorn/issues/2722,
https://github.com/MagicStack/httptools/issues/124), adds trailers to the headers, and
responds to malformed data before it has answered earlier requests. Its overridable
parts are not documented, so this is a protocol of its own.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import urllib.parse
from collections import deque
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from . import eager
from .asgi_types import Headers, Scope
from .connections import FlowControl
from .exchange import Exchange
from .rejections import bad_request, has_valid_host, reject_host, report_unparsed

log = logging.getLogger(__name__)


class Reading(enum.Enum):
    """Part of a request that has begun and not ended yet."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


# PERF: an attribute of an Enum costs more than a global.
NOTHING, HEAD, BODY = Reading


class FramedProtocol(asyncio.Protocol):
    """Protocol that answers exactly the requests that were sent, in their order.

    Args:
        config: configuration of the server.
        server_state: what its connections share: themselves, their tasks, the number of
            requests, and the headers of every response.
        app_state: state of the app's lifespan.
        _loop: the event loop.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.reading = NOTHING
        # Requests without a complete response, the oldest first: an app responds to
        # that one, the others wait.
        self.unanswered: deque[Exchange] = deque()
        self._running: Exchange | None = None
        self._app = config.loaded_app
        self._app_state = app_state
        self._root_path = config.root_path
        self._parser = self._create_parser()
        self._is_input_over = False
        self._rejection: bytes | None = None

    def _create_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request with `Connection: close` is not an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's
        """Wait for requests."""
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # its own only
        self._scope: Scope = {
            'type': 'http',
            'asgi': {'version': '3.0', 'spec_version': '2.3'},
            'scheme': 'https' if is_ssl(transport) else 'http',
            'server': get_local_addr(transport),
            'client': get_remote_addr(transport),
            'root_path': self._root_path,
        }

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to the app."""
        self.server_state.connections.discard(self)
        for exchange in self.unanswered:
            exchange.disconnect()
        self.unanswered.clear()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse data, unless what follows is not HTTP or was rejected."""
        if self._is_input_over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as ex:
            self._continue(memoryview(data)[ex.args[0] :])
        except httptools.HttpParserError:
            self._reject()
        if self.unanswered and self.unanswered[0] is not self._running:
            exchange = self._running = self.unanswered[0]
            self._keep(eager.start(self.loop, exchange.run()))

    def _keep(self, task: asyncio.Task[None] | None) -> None:
        """Let the server wait for a task, and cancel it if it takes too long."""
        if task is not None:
            self.server_state.tasks.add(task)
            task.add_done_callback(self.server_state.tasks.discard)

    def _continue(self, rest: memoryview) -> None:
        """Parse what follows a head with an offer to upgrade, or `CONNECT`."""
        while True:
            if self.reading is not HEAD:  # CONNECT: what follows may be a tunnel
                self._is_input_over = True
                return
            try:
                self._ignore_upgrade()
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as ex:
                rest = rest[ex.args[0] :]
            except httptools.HttpParserError:
                self._reject()
                return

    def _ignore_upgrade(self) -> None:
        """Parse a head again without its `Upgrade` (RFC 9110, section 7.8).

        The parser is past the head, and would take the body for another request.
        """
        version = self._parser.get_http_version().encode()
        lines = [b'%s %s HTTP/%s' % (self._parser.get_method(), self._url, version)]
        lines += [
            b'%s: %s' % (name, value)
            for name, value in self._headers
            if name != b'upgrade'
        ]
        self._parser = self._create_parser()
        self._parser.feed_data(b'\r\n'.join([*lines, b'', b'']))

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        self.reading = HEAD
        self._url = b''
        self._headers: Headers = []
        # PERF: the most frequent call.
        self._add_header = self._headers.append

    def on_url(self, url: bytes) -> None:
        """Add to the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, or drop a trailer."""
        self._add_header((name.lower(), value))

    def on_headers_complete(self) -> None:
        """End the head of a request, and respond once those before it are answered."""
        parser, headers = self._parser, self._headers
        method = parser.get_method()
        is_upgrade = parser.should_upgrade()
        if is_upgrade and method != b'CONNECT':
            return  # the head is parsed again
        version = parser.get_http_version()
        url = httptools.parse_url(self._url)
        scope: Scope = {
            **self._scope,
            'http_version': version,
            'method': method.decode('ascii'),
            'path': self._root_path + urllib.parse.unquote(url.path.decode('ascii')),
            'raw_path': self._root_path.encode() + url.path,
            'query_string': url.query or b'',
            'headers': headers,
            'state': self._app_state.copy(),
        }
        is_1_0 = version == '1.0'
        found = dict(headers)
        expectation = found.get(b'expect', b'').lower()
        exchange = self._receiving = Exchange(
            self,
            self._app if has_valid_host(headers, found, version) else reject_host,
            scope,
            keep_alive=not is_1_0 and not is_upgrade and parser.should_keep_alive(),
            expects_continue=expectation == b'100-continue' and not is_1_0,
        )
        self.reading = BODY
        self._add_header = _drop_trailer
        self.unanswered.append(exchange)
        if len(self.unanswered) > 1:
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """Pass content on."""
        if self._receiving.feed(body):
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """End a request."""
        if self.reading is BODY:
            self.reading = NOTHING
            self._receiving.end_body()

    def end_response(self, exchange: Exchange) -> None:
        """End a response, and begin with the next one."""
        self.server_state.total_requests += 1
        self.unanswered.popleft()
        if not exchange.keep_alive:
            self._finish(exchange)
        elif self.unanswered:
            exchange = self._running = self.unanswered[0]
            # NOTE(fairness): a task, as thousands of requests may be waiting.
            self._keep(self.loop.create_task(exchange.run()))
        else:
            self._reject_if_due()
        self.resume_reading()

    def _finish(self, exchange: Exchange) -> None:
        """Close the connection, or only its sending half while the client sends.

        It would otherwise see a reset, not the response (RFC 9112, section 9.6).
        """
        if exchange.more_body and self.transport.can_write_eof():
            self._is_input_over = True
            self.transport.write_eof()
        else:
            self.transport.close()

    def _reject(self) -> None:
        """Reject malformed data, after the responses to earlier requests."""
        log.warning('Malformed HTTP request rejected.')
        self._is_input_over = True
        self._rejection = bad_request()
        if self.reading is BODY:
            if self._receiving.has_started:
                self.transport.close()
                return
            self.unanswered.pop().disconnect()
        if not self.unanswered:
            self._reject_if_due()

    def _reject_if_due(self) -> None:
        if self._rejection is not None and not self.transport.is_closing():
            self.transport.write(self._rejection)
            self.transport.close()
            sent = len(self._rejection.partition(b'\r\n\r\n')[2])
            report_unparsed(self._scope, self._app_state, sent)

    def resume_reading(self) -> None:
        """Read on, unless several requests wait for their responses."""
        if len(self.unanswered) < 2:
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Let apps wait until the client has read."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """Let apps send again."""
        self.flow.resume_writing()


def _drop_trailer(_trailer: tuple[bytes, bytes]) -> None:
    """Ignore a trailer (RFC 9110, section 6.5.1)."""
