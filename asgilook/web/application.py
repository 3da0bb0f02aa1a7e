"""What the ASGI server hands in, made safe before Falcon sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote_from_bytes

import falcon.asgi
import falcon.inspect
from falcon.routing import CompiledRouter

from ..config import Config
from .access_log import Count, Exchange
from .lifespan import Draining
from .problems import problem_response
from .shortcut import Shortcut
from .upgrade import close_after_upgrade
from .uploads import GuardedBody, Receive
from .urls import is_canonical

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]

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
        # Falcon's TestClient gives iterators, which can be read only once.
        scope['headers'] = [(name, value) for name, value in scope['headers']]
        exchange = Exchange(scope, close_after_upgrade(scope, send))
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
    status, _, body = problem = problem_response(
        503, 'The service is stopping.', headers={'retry-after': '1'}
    )
    headers = problem.asgi_headers()
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
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
