"""Bearer tokens (RFC 6750) for requests that change something."""

from __future__ import annotations

import hmac
from typing import Any

import falcon
import falcon.asgi


async def authorize(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    resource: Any,
    params: dict[str, Any],
) -> None:
    """Async hook: if `api_token` is set, reject requests without it."""
    token = resource.config.api_token
    if token is None:
        return
    scheme, _, given = req.get_header('Authorization', default='').partition(' ')
    if scheme.lower() != 'bearer':
        raise _unauthorized('A bearer token is required.')
    if not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise _unauthorized('The bearer token is not valid.')


def _unauthorized(detail: str) -> falcon.HTTPUnauthorized:
    return falcon.HTTPUnauthorized(description=detail, challenges=['Bearer'])
