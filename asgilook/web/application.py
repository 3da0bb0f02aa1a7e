"""The ASGI entry point: records, logs and counts requests around Falcon."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Protocol, cast
from urllib.parse import quote_from_bytes

import falcon.asgi

from ..concurrency import in_task
from ..config import Config
from ..errors import AsgilookError
from .access_log import log_request
from .asgi_types import Event, HeaderBlock, Receive, Scope, Send, SharedHeaders
from .lifespan import Draining
from .problems import problem_response
from .record import REJECTION_KEY, SCOPE_KEY, Identifiable, Record
from .upgrade import close_after_upgrade
from .uploads import GuardedBody

log = logging.getLogger(__name__)

_BODILESS = frozenset({'GET', 'HEAD', 'OPTIONS'})

_FIELD = re.compile(r'{(\w+)')


# Counts a request: route, method, status, cache result, bytes sent, and seconds.
Count = Callable[[str | None, str, int, str | None, int, float], None]


class ResponseCache(Protocol):
    """A cache that can respond before Falcon sees the request."""

    async def answer(self, record: Record) -> tuple[int, HeaderBlock, bytes] | None:
        """Return status, headers and body; None leaves the request to Falcon."""
        ...


class Application(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon app behind a cache, with request ids, an access log and metrics."""

    def __init__(
        self,
        config: Config,
        *,
        cache: ResponseCache,
        draining: Draining,
        count: Count,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._config = config
        self._cache = cache
        self._draining = draining
        self._count = count

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        """Add a route; raises TypeError if `identify` does not take its fields."""
        if isinstance(resource, Identifiable):
            fields = dict.fromkeys(_FIELD.findall(uri_template))
            inspect.signature(resource.identify).bind(None, **fields)
        super().add_route(uri_template, resource, **kwargs)

    async def __call__(  # type: ignore[override]  # as falcon.asgi.App does itself
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one connection scope (ASGI 3)."""
        if scope['type'] != 'http':
            scope.get('state', {})[REJECTION_KEY] = self._report_rejection
            await super().__call__(scope, receive, send)
            return
        if not isinstance(scope['headers'], list):
            # Falcon's TestClient has iterators, which can be read only once.
            headers = [(name, value) for name, value in scope['headers']]
            scope = {**scope, 'headers': headers}
        record = scope[SCOPE_KEY] = Record(scope)
        if b'upgrade' in record.headers or record.method == 'CONNECT':
            send = close_after_upgrade(record, send)
        responder = Responder(record, send, self._count)
        try:
            cached = await self._cache.answer(record)
            if cached is None:
                await self._ask_falcon(scope, receive, responder)
            else:
                await responder.send_whole(*cached)
        finally:
            responder.finish()
            log_request(record, scope, self._config.access_log)

    def _report_rejection(self, scope: Scope, sent: int) -> None:
        """Log and count a 400 of the server, whose body has `sent` bytes."""
        record = Record(scope)
        record.status, record.sent = 400, sent
        self._count(None, record.method, 400, None, sent, 0.0)
        log_request(record, scope, self._config.access_log)

    async def _ask_falcon(
        self, scope: Scope, receive: Receive, responder: Responder
    ) -> None:
        await in_task()
        has_body = scope['method'] not in _BODILESS
        if has_body:
            receive = GuardedBody(
                receive, self._config.max_upload_size, self._config.body_timeout
            ).receive
        first = {'type': 'http.request', 'body': b'', 'more_body': has_body}
        if not scope['query_string'].isascii():
            query = quote_from_bytes(scope['query_string'], safe="%&=+,;:/?@!$'()*")
            scope = {**scope, 'query_string': query.encode()}
        try:
            await super().__call__(
                scope, _starting_with(first, receive), responder.send
            )
        except asyncio.CancelledError:
            # NOTE(shutdown): a server cancels the requests that outlast its limit for
            # a graceful shutdown. Nothing else in the package handles cancellation.
            if not self._draining.is_draining or scope[SCOPE_KEY].has_started:
                raise
            # This task continues, which an `asyncio.timeout` in it has to know: before
            # Python 3.11.3, it would raise CancelledError (python/cpython#102780).
            cast('asyncio.Task[None]', asyncio.current_task()).uncancel()
            problem = problem_response(
                503, 'The service is stopping.', headers={'retry-after': '1'}
            )
            head = HeaderBlock(tuple(problem.asgi_headers()))
            await responder.send_whole(problem.status, head, problem.body)
        except (AsgilookError, OSError) as ex:
            # Falcon handles all errors but those after the head of a response. The
            # server closes the connection of a response that ends too early.
            record: Record = scope[SCOPE_KEY]
            log.warning(
                'response to %s %s cut off: %s', record.method, record.target, ex
            )
            record.status = 500


class Responder:
    """An ASGI `send` that records and counts the response, and adds the request id."""

    __slots__ = ('_count', '_is_finished', '_record', '_send')

    def __init__(self, record: Record, send: Send, count: Count) -> None:
        self._record = record
        self._send = send
        self._count = count
        self._is_finished = False

    async def send(self, message: Any) -> None:
        """Pass a message on."""
        record = self._record
        if message['type'] == 'http.response.start':
            record.status = message['status']
            headers = [*message['headers'], *self._own_headers()]
            record.response_headers = headers
            message = {**message, 'headers': headers}
        else:
            record.sent += len(message.get('body', b''))
            if not message.get('more_body'):
                # NOTE(metrics): counted before the client can have the whole response,
                # so that neither a kill of this process nor a scrape misses it.
                self.finish()
        await self._send(message)

    async def send_whole(self, status: int, block: HeaderBlock, body: bytes) -> None:
        """Send a response whose body is complete."""
        record = self._record
        record.status = status
        # NOTE(aliasing): the block is shared, so the request id is kept apart from it.
        headers = SharedHeaders(block, self._own_headers())
        record.response_headers = headers
        await self._send(
            {'type': 'http.response.start', 'status': status, 'headers': headers}
        )
        record.sent = len(body)
        self.finish()
        await self._send({'type': 'http.response.body', 'body': body})

    def finish(self) -> None:
        """Take the duration and count the request, unless that has been done."""
        if self._is_finished:
            return
        self._is_finished = True
        record = self._record
        record.seconds = time.perf_counter() - record.started
        self._count(
            record.route,
            record.method,
            record.status,
            record.cache,
            record.sent,
            record.seconds,
        )

    def _own_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the request id where the client can use it."""
        record = self._record
        if record.returns_id or record.status >= 500:
            return ((b'x-request-id', record.request_id),)
        return ()


def _starting_with(first: Event, receive: Receive) -> Receive:
    """Return a `receive` that returns `first` before it waits for the client.

    Falcon receives the first event before any middleware runs, where no handler would
    see an exception, and where the server would answer `Expect: 100-continue`. And a
    client may never send the body that it has announced.
    """
    events = iter([first])

    async def receive_next() -> Event:
        for event in events:
            return event
        return await receive()

    return receive_next
