"""The gallery: a web page, its style and its script, served from memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import falcon.asgi

from ..web.record import Representation

STATIC = Path(__file__).parent / 'static'

# URL path, file, media type.
FILES = (
    ('/', 'index.html', 'text/html; charset=utf-8'),
    ('/static/gallery.css', 'gallery.css', 'text/css; charset=utf-8'),
    ('/static/gallery.js', 'gallery.js', 'text/javascript; charset=utf-8'),
    ('/static/icon.svg', 'icon.svg', 'image/svg+xml'),
)

# Nothing but files of this service, the pictures that a user is about to upload
# (blob:), and no code or style within the page.
CONTENT_SECURITY_POLICY = '; '.join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = (
    ('cache-control', 'no-cache'),
    ('content-security-policy', CONTENT_SECURITY_POLICY),
    ('cross-origin-opener-policy', 'same-origin'),
    ('referrer-policy', 'no-referrer'),
    ('x-content-type-options', 'nosniff'),
)


class StaticFile:
    """One file, read once."""

    def __init__(self, name: str, media_type: str) -> None:
        self._body = (STATIC / name).read_bytes()
        etag = hashlib.blake2b(self._body, digest_size=12).hexdigest()
        headers = (*_HEADERS, ('etag', f'"{etag}"'))
        self._representation = Representation(None, etag, media_type, headers)

    async def identify(self, req: falcon.asgi.Request) -> Representation:
        """Say what a GET would answer."""
        return self._representation

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send the file."""
        resp.data = self._body

    on_head = on_get


def add_gallery(app: falcon.asgi.App[Any, Any]) -> None:
    """Route the page and its files."""
    for path, name, media_type in FILES:
        app.add_route(path, StaticFile(name, media_type))
