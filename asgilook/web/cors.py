"""Cross-origin requests (CORS), if a setting allows them."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi

from ..config import Config

_EXPOSED = 'ETag, Link, Location, X-ASGILook-Cache, X-Request-ID'

# Headers of every response if any origin is allowed. They do not depend on `Origin`, so
# that a cache can reuse the response to an `<img>` for a `fetch`.
_ANY_ORIGIN = (
    ('access-control-allow-origin', '*'),
    ('access-control-expose-headers', _EXPOSED),
)


class Cors(falcon.CORSMiddleware[Any, Any]):
    """Falcon's middleware, for caches (Fetch, "CORS protocol and HTTP caches").

    It adds `Vary` if some origins are allowed, and the headers for any origin also to
    responses to requests without `Origin`.
    """

    async def process_response_async(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        req_succeeded: bool,
    ) -> None:
        """Add the headers, and `Vary` unless the resource has done so."""
        # NOTE(order): `process_response` removes them again from a rejected preflight.
        if self.allow_origins == '*':
            resp.set_headers(_ANY_ORIGIN)
        self.process_response(req, resp, resource, req_succeeded)
        if self.allow_origins != '*' and 'Origin' not in resp.get_header('Vary', ''):
            resp.append_header('Vary', 'Origin')


def cors(config: Config) -> list[Cors]:
    """Return the middleware, or an empty list if no origin is allowed."""
    if config.cors_origins is None:
        return []
    return [Cors(config.cors_origins, expose_headers=_EXPOSED)]


def depends_on_origin(config: Config) -> bool:
    """Return whether responses depend on `Origin`."""
    return config.cors_origins not in (None, '*')


def common_headers(config: Config, *varies: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that responses have with and without `Origin`.

    These include `Vary` if the responses depend on `Origin` or the headers `varies`.
    """
    if depends_on_origin(config):
        varies = (*varies, 'Origin')
    headers = _ANY_ORIGIN if config.cors_origins == '*' else ()
    return (*headers, ('vary', ', '.join(varies))) if varies else headers
