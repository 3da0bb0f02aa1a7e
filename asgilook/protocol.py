"""What the ASGI server hands in, made safe before Falcon sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote_from_bytes

import falcon.asgi
from falcon.routing import CompiledRouter

from .errors import BodyTimeout, InvalidRequest
from .media import FORM_OVERHEAD, too_large

Scope = dict[str, Any]
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]


_BODILESS = frozenset({'GET', 'HEAD', 'OPTIONS'})


class Application(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon app whose request bodies are guarded, and whose URLs are canonical.

    Args:
        max_upload_size: bytes that the file in a body may have; what surrounds it in
            a form may add `FORM_OVERHEAD`.
        body_timeout: seconds without a byte of a body after which it is given up.
    """

    def __init__(
        self, *, max_upload_size: int, body_timeout: float, **kwargs: Any
    ) -> None:
        super().__init__(router=CanonicalRouter(), **kwargs)
        self._max_upload_size = max_upload_size
        self._body_timeout = body_timeout

    async def __call__(  # type: ignore[override]  # as falcon.asgi.App does itself
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one connection scope (ASGI 3)."""
        if scope['type'] == 'http':
            if scope['method'] not in _BODILESS:
                receive = _guard_body(
                    receive, self._max_upload_size, self._body_timeout
                )
            if not scope['query_string'].isascii():
                query = quote_from_bytes(scope['query_string'], safe="%&=+,;:/?@!$'()*")
                scope = {**scope, 'query_string': query.encode()}
        await super().__call__(scope, receive, send)


class CanonicalRouter(CompiledRouter):
    """Finds a resource by its canonical URL only, so that a cache has one key for it.

    Falcon strips leading slashes, and the server decodes %-escapes: here `//images`
    and `/%69mages` are other URLs, which name nothing.
    """

    def find(self, uri: str, req: Any = None) -> Any:
        """Return what `CompiledRouter.find` does."""
        return super().find(uri, req) if is_canonical(req) else None


def is_canonical(req: falcon.asgi.Request) -> bool:
    """Tell whether the path has one leading slash, and no %-escape."""
    raw = req.scope.get('raw_path', b'')
    return not (raw.startswith(b'//') or b'%' in raw)


def _guard_body(receive: Receive, limit: int, timeout: float) -> Receive:
    """Raise for a body that is stalled, broken off, or endless.

    Falcon asks for the first event before any middleware, where an exception would
    have no handler and the server would already have answered `Expect:
    100-continue`: so the first event is an empty one of ours. Falcon's own stream
    takes a client that hangs up for the end of the body.
    """
    started = ended = False
    received = 0

    async def guarded() -> Event:
        nonlocal started, ended, received
        if not started:
            started = True
            return {'type': 'http.request', 'body': b'', 'more_body': True}
        if ended:
            return await receive()
        try:
            event = await asyncio.wait_for(receive(), timeout)
        except TimeoutError:
            raise BodyTimeout('No more of the body arrived in time.') from None
        if event['type'] == 'http.disconnect':
            raise InvalidRequest('The client hung up before the end of its body.')
        received += len(event.get('body', b''))
        if received > limit + FORM_OVERHEAD:
            raise too_large(limit)
        ended = not event.get('more_body', False)
        return event

    return guarded
