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
    """Async hook: if `api_token` is set, reject requests without one of its tokens."""
    if resource.config.api_token is None:
        return
    scheme, _, given = req.get_header('Authorization', default='').partition(' ')
    if scheme.lower() != 'bearer':
        raise _unauthorized(
            'A bearer token is required: send `Authorization: Bearer TOKEN`.'
        )
    if not is_valid(given.strip(), resource.config.api_token):
        raise _unauthorized('This bearer token is not valid.')


def is_valid(given: str, tokens: str) -> bool:
    """Return whether `given` is one of the comma-separated `tokens`.

    The time does not depend on how much of a token matches.
    """
    matches = [
        hmac.compare_digest(given.encode(), token.strip().encode())
        for token in tokens.split(',')
        if token.strip()
    ]
    return any(matches)


def _unauthorized(detail: str) -> falcon.HTTPUnauthorized:
    return falcon.HTTPUnauthorized(description=detail, challenges=['Bearer'])
