"""Cross-origin requests (CORS), if a setting allows them."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi

from ..config import Config

_EXPOSED = ['ETag', 'Link', 'Location', 'X-ASGILook-Cache', 'X-Request-ID']


class Cors(falcon.CORSMiddleware[Any, Any]):
    """Falcon's middleware, with `Vary` (Fetch, "CORS protocol and HTTP caches")."""

    async def process_response_async(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        req_succeeded: bool,
    ) -> None:
        """Add the headers, and `Vary` unless the resource has done so."""
        self.process_response(req, resp, resource, req_succeeded)
        if self.allow_origins != '*' and 'Origin' not in resp.get_header('Vary', ''):
            resp.append_header('Vary', 'Origin')


def cors(config: Config) -> list[Cors]:
    """Return the middleware, or an empty list if no origin is allowed."""
    if config.cors_origins is None:
        return []
    return [Cors(config.cors_origins, expose_headers=_EXPOSED)]


def vary(config: Config, *names: str) -> tuple[tuple[str, str], ...]:
    """Return the header `Vary` of responses that depend on the headers `names`."""
    if isinstance(config.cors_origins, list):
        names = (*names, 'Origin')
    return (('vary', ', '.join(names)),) if names else ()
