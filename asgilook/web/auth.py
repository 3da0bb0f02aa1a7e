"""Who may change something: whoever has the token, where one is set."""

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
    """Async hook: where a token is set, only who has it may go on (RFC 6750)."""
    token = resource.config.api_token
    if token is None:
        return
    scheme, _, given = req.get_header('Authorization', default='').partition(' ')
    if scheme.lower() != 'bearer' or not hmac.compare_digest(
        given.strip().encode(), token.encode()
    ):
        raise falcon.HTTPUnauthorized(
            description='This needs the token of the service.', challenges=['Bearer']
        )
