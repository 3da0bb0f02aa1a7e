"""One request on a connection and its response: `receive` and `send` of ASGI."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .asgi_types import App, Event, Scope
from .rejections import send_problem
from .response_head import CHUNKED, LENGTH, NO_CONTENT, Framing, encode_head

if TYPE_CHECKING:
    from .framing import FramedProtocol

log = logging.getLogger(__name__)

# Maximum content that the app has not received yet, in bytes; above it, reading pauses.
MAX_BUFFERED = 64 * 1024

_ONE_WRITE = frozenset({LENGTH, NO_CONTENT})


class Exchange:
    """A request and its response.

    Attributes:
        scope: ASGI scope of the request.
        more_body: whether content of the request is missing.
        keep_alive: whether the connection stays open after the response.
        has_started: whether the head of the response has been sent.
        is_complete: whether the response has been sent.
        is_disconnected: whether the client has disconnected.
    """

    __slots__ = (
        '_app',
        '_body',
        '_change',
        '_connection',
        '_expects_continue',
        '_framing',
        '_is_body_received',
        '_length',
        '_pending_head',
        'has_started',
        'is_complete',
        'is_disconnected',
        'keep_alive',
        'more_body',
        'scope',
    )

    def __init__(
        self,
        connection: FramedProtocol,
        app: App,
        scope: Scope,
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.more_body = True
        self.has_started = self.is_complete = self.is_disconnected = False
        self._app = app
        self._connection = connection
        self._expects_continue = expects_continue
        # The request.
        self._body = bytearray()
        self._is_body_received = False
        self._change: asyncio.Event | None = None
        # The response.
        self._pending_head: bytes | None = None
        self._framing: Framing = NO_CONTENT
        self._length = 0

    def feed(self, content: bytes) -> bool:
        """Add content of the request; return whether the app should receive it first.

        Content that comes after the response is dropped.
        """
        if self.is_complete:
            return False
        self._body += content
        self._report_change()
        return len(self._body) > MAX_BUFFERED

    def end_body(self) -> None:
        """End the content of the request."""
        self.more_body = False
        self._report_change()

    def disconnect(self) -> None:
        """Report to the app that the client has disconnected."""
        self.is_disconnected = True
        self._report_change()

    def _report_change(self) -> None:
        if self._change is not None:
            self._change.set()

    async def run(self) -> None:
        """Run the app; if it leaves the response incomplete, close the connection."""
        try:
            await self._app(self.scope, self.receive, self.send)
        except Exception:
            log.exception('Exception in ASGI application')
            if not self.has_started:
                await send_problem(self.send, 500)
        finally:
            if not self.is_complete and not self.is_disconnected:
                self._connection.transport.close()

    async def receive(self) -> Event:
        """Return the next event: content of the request, or a disconnect."""
        self._flush_head()
        connection = self._connection
        if self._expects_continue and not connection.transport.is_closing():
            self._expects_continue = False
            connection.transport.write(b'HTTP/1.1 100 Continue\r\n\r\n')
        connection.resume_reading()
        while not self._has_event():
            self._change = self._change or asyncio.Event()
            self._change.clear()
            await self._change.wait()
        if self.is_disconnected or self.is_complete:
            return {'type': 'http.disconnect'}
        body, self._body = bytes(self._body), bytearray()
        self._is_body_received = not self.more_body
        return {'type': 'http.request', 'body': body, 'more_body': self.more_body}

    def _has_event(self) -> bool:
        if self.is_disconnected or self.is_complete:
            return True
        if self.more_body:
            return bool(self._body)
        return not self._is_body_received

    async def send(self, message: Any) -> None:
        """Send the head or content of the response.

        Raises ValueError or RuntimeError, and sends nothing, where the client could not
        parse the response.
        """
        if self._connection.flow.is_write_paused:
            await self._connection.flow.drain()
        if self.is_disconnected:
            return
        if message['type'] == 'http.response.start':
            self._send_head(message['status'], message['headers'])
        else:
            self._send_content(
                message.get('body', b''), is_last=not message.get('more_body', False)
            )

    def _send_head(self, status: int, headers: Any) -> None:
        if self.has_started:
            raise RuntimeError('The response has started already.')
        head = encode_head(
            self.scope,
            status,
            headers,
            default_headers=self._connection.server_state.default_headers,
            keep_alive=self.keep_alive,
        )
        self._pending_head, self._framing, self._length, self.keep_alive = head
        self.has_started = True
        self._expects_continue = False
        # PERF: head and content are one write, unless the app may wait between them.
        if self._framing not in _ONE_WRITE:
            self._connection.loop.call_soon(self._flush_head)

    def _flush_head(self) -> None:
        if self._pending_head is not None:
            self._write(b'')

    def _send_content(self, content: bytes, *, is_last: bool) -> None:
        if not self.has_started or self.is_complete:
            raise RuntimeError('Content before the head, or after the end.')
        framing = self._framing
        if framing is LENGTH:
            self._length -= len(content)
            if self._length < 0 or (is_last and self._length):
                raise RuntimeError('The content differs from its Content-Length.')
        elif framing is CHUNKED:
            content = b'%x\r\n%b\r\n' % (len(content), content) if content else b''
            content += b'0\r\n\r\n' if is_last else b''
        elif framing is NO_CONTENT:
            content = b''
        self._write(content)
        if is_last:
            self.is_complete = True
            self._report_change()
            self._connection.end_response(self)

    def _write(self, data: bytes) -> None:
        head, self._pending_head = self._pending_head, None
        transport = self._connection.transport
        # NOTE(uvloop): its transports raise an error once the client has hung up.
        if transport.is_closing():
            return
        if head is None:
            transport.write(data)
        elif data:
            transport.writelines((head, data))
        else:
            transport.write(head)
