"""Canonical URLs, and the converters of their parts."""

from __future__ import annotations

import re

import falcon
import falcon.asgi
from falcon.routing import BaseConverter

from ..models import UUID
from .record import record_of

_SIZE = re.compile('([1-9][0-9]{0,4})x([1-9][0-9]{0,4})')


class CanonicalUUID(BaseConverter):
    """Falcon converter of UUIDs in lower case with hyphens; no other form matches."""

    def convert(self, value: str) -> str | None:
        """Return the value itself, or None if it is not canonical."""
        return value if UUID.fullmatch(value) else None


class PixelSize(BaseConverter):
    """Falcon converter of `320x180` to (320, 180); no sign, space or leading zero."""

    def convert(self, value: str) -> tuple[int, int] | None:
        """Return width and height in pixels, or None if it is not canonical."""
        match = _SIZE.fullmatch(value)
        return (int(match[1]), int(match[2])) if match else None


class CanonicalUrls:
    """Falcon middleware that answers 404 to all but the canonical URL of a resource.

    The router ignores leading slashes, and the server decodes %-escapes: without this,
    `//images` and `/%69mages` would name the list, too.
    """

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Raise falcon.HTTPRouteNotFound for another spelling of a path."""
        if record_of(req).target is None:
            raise falcon.HTTPRouteNotFound

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        params: dict[str, object],
    ) -> None:
        """Record which resource answers."""
        record_of(req).route = req.uri_template
