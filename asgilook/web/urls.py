"""Canonical URLs, and the converters of their parts."""

from __future__ import annotations

import re
import uuid
from difflib import get_close_matches
from typing import Any

import falcon
import falcon.asgi
from falcon.routing import BaseConverter

from ..models import UUID
from .record import record_of

_SIZE = re.compile('([1-9][0-9]{0,4})x([1-9][0-9]{0,4})')

# Near misses of a URL, in lower case: a UUID with or without braces and hyphens, sizes
# with leading zeros, a short suffix or none.
_UUID = r'\{?([0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12})\}?'
_NEAR_IMAGE = re.compile(rf'/images/{_UUID}(?:\.jpe?g?)?')
_NEAR_THUMBNAIL = re.compile(
    rf'/thumbnails/{_UUID}/0*([1-9][0-9]{{0,4}})x0*([1-9][0-9]{{0,4}})'
    r'(?:\.(?:jpe?g?|(webp)))?'
)
_FIXED = frozenset({'/', '/images', '/events', '/openapi.json', '/metrics'}) | {
    '/healthz/live',
    '/healthz/ready',
}

_NO_RESOURCE = 'Nothing has this URL; /openapi.json lists all paths.'

# Minimum similarity of a path and a fixed URL for a suggestion, from 0 to 1: that of
# `/image` and `/images` is 0.92.
_SIMILARITY = 0.75

# Maximum length of a path for which a suggestion is searched.
_MAX_PATH = 200


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


def nearest_url(path: str) -> str | None:
    """Return the canonical URL that a path probably means, or None.

    Only its shape is checked, not whether the image exists. The result consists of
    constants, hexadecimal digits and numbers, never of other text of the path.
    """
    if len(path) > _MAX_PATH or not path.isascii():
        return None
    path = re.sub('/+', '/', path.lower())
    path = path.removesuffix('/') or '/'
    if path in _FIXED:
        return path
    if image := _NEAR_IMAGE.fullmatch(path):
        return f'/images/{uuid.UUID(image[1])}.jpeg'
    if thumbnail := _NEAR_THUMBNAIL.fullmatch(path):
        image_id, width, height, suffix = thumbnail.groups()
        return f'/thumbnails/{uuid.UUID(image_id)}/{width}x{height}.{suffix or "jpeg"}'
    if path.count('/') == 1:
        return next(iter(get_close_matches(path, _FIXED, 1, _SIMILARITY)), None)
    return None


async def handle_not_found(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    ex: Exception,
    params: dict[str, Any],
) -> None:
    """Answer 404 to a path without a resource, with a suggestion for a near miss."""
    url = nearest_url(req.scope['path'])
    detail = f'Not found; did you mean {url}?' if url else _NO_RESOURCE
    raise falcon.HTTPNotFound(description=detail)


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
        """Record which resource handles the request."""
        record_of(req).route = req.uri_template
