"""What the ASGI server hands in, made safe before Falcon sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote_from_bytes

import falcon.asgi
import falcon.inspect
from falcon.routing import CompiledRouter

from ..config import Config
from ..errors import PROBLEM_JSON, BodyTimeout, Busy, InvalidRequest, problem
from .access_log import Count, Exchange
from .lifespan import Draining
from .shortcut import Shortcut
from .uploads import FORM_OVERHEAD, too_large
from .urls import is_canonical

Scope = dict[str, Any]
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]

# A body must come in at this rate at least, in bytes a second, once `body_timeout`
# has passed: a byte now and then doesn't keep a request alive.
LEAST_RATE = 1024

_BODILESS = frozenset({'GET', 'HEAD', 'OPTIONS'})


class Application(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon app whose requests are named and logged, and their bodies guarded."""

    def __init__(
        self,
        config: Config,
        draining: Draining,
        count: Count,
        shortcut: Shortcut,
        **kwargs: Any,
    ) -> None:
        super().__init__(router=CanonicalRouter(), **kwargs)
        self._shortcut = shortcut
        self._config = config
        self._draining = draining
        self._count = count

    async def __call__(  # type: ignore[override]  # as falcon.asgi.App does itself
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one connection scope (ASGI 3)."""
        if scope['type'] != 'http':
            await super().__call__(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        try:
            if not await self._shortcut.answer(scope, exchange.send):
                await self._answer(scope, receive, exchange)
        finally:
            exchange.count(self._count)
            exchange.log(self._config.access_log)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        """Let Falcon answer, and learn from it."""
        if scope['method'] not in _BODILESS:
            receive = GuardedBody(
                receive, self._config.max_upload_size, self._config.body_timeout
            ).receive
        if not scope['query_string'].isascii():
            query = quote_from_bytes(scope['query_string'], safe="%&=+,;:/?@!$'()*")
            scope['query_string'] = query.encode()
        try:
            await super().__call__(scope, receive, exchange.send)
        except asyncio.CancelledError:
            # The patience of a server that stops is over: who still waits is told so.
            if exchange.headers or not self._draining.is_draining:
                raise
            await _send_stopping(exchange.send)
        self._shortcut.learn(scope, exchange.status, exchange.headers)


async def _send_stopping(send: Send) -> None:
    body = problem(503, 'The service is stopping.')
    headers = [
        (b'content-type', PROBLEM_JSON.encode()),
        (b'content-length', b'%d' % len(body)),
        (b'cache-control', b'no-store'),
        (b'retry-after', b'1'),
    ]
    await send({'type': 'http.response.start', 'status': 503, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body})


class CanonicalRouter(CompiledRouter):
    """Finds a resource by its canonical URL only, so that a cache has one key for it.

    Falcon strips leading slashes, and the server decodes %-escapes: here `//images`
    and `/%69mages` are other URLs, which name nothing.
    """

    def find(self, uri: str, req: Any = None) -> Any:
        """Return what `CompiledRouter.find` does; the scope gets the `route`."""
        found = super().find(uri, req) if is_canonical(req.scope) else None
        if found is not None:
            req.scope['route'] = found[-1]
        return found


# Falcon inspects an app by the exact type of its router.
falcon.inspect.register_router(CanonicalRouter)(falcon.inspect.inspect_compiled_router)


class GuardedBody:
    """An ASGI `receive` that raises for a body that is slow, broken off, or endless.

    Falcon asks for the first event before any middleware, where an exception would
    have no handler, and where the server would answer `Expect: 100-continue`: so the
    first event is an empty one of ours. And Falcon's own stream takes a client that
    hangs up for the end of the body.
    """

    def __init__(self, receive: Receive, limit: int, timeout: float) -> None:
        self._receive = receive
        self._limit = limit
        self._timeout = timeout
        self._started: float | None = None
        self._received = 0
        self._ended = False

    async def receive(self) -> Event:
        """Return the next event; raise `BodyTimeout`, `UploadTooLarge`, ..."""
        if self._started is None:
            self._started = time.monotonic()
            return {'type': 'http.request', 'body': b'', 'more_body': True}
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout(self._seconds_left(self._started)):
                event = await self._receive()
        except TimeoutError:
            raise BodyTimeout('The body came too slowly.') from None
        except asyncio.CancelledError:
            # Only a server that stops cancels a request, when its patience is over.
            raise Busy('The service is stopping.') from None
        if event['type'] == 'http.disconnect':
            raise InvalidRequest('The client hung up before the end of its body.')
        self._received += len(event.get('body', b''))
        if self._received > self._limit + FORM_OVERHEAD:
            raise too_large(self._limit)
        self._ended = not event.get('more_body', False)
        return event

    def _seconds_left(self, started: float) -> float:
        allowed = self._timeout + self._received / LEAST_RATE
        return min(self._timeout, started + allowed - time.monotonic())
