"""The gallery: a web page with its styles and scripts, served from memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import falcon.asgi

from ..web.record import Representation

STATIC = Path(__file__).parent / 'static'

PAGE = 'index.html'

MEDIA_TYPES = {
    '.css': 'text/css; charset=utf-8',
    '.html': 'text/html; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.svg': 'image/svg+xml',
}

# Allows files of this service and previews of files that are about to be uploaded
# (blob:), but no inline scripts or styles.
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

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        etag = hashlib.blake2b(self._body, digest_size=12).hexdigest()
        headers = (*_HEADERS, ('etag', f'"{etag}"'))
        media_type = MEDIA_TYPES[path.suffix]
        self._representation = Representation(None, etag, media_type, headers)

    async def identify(self, req: falcon.asgi.Request) -> Representation:
        """Return the representation that a GET would send."""
        return self._representation

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send the file."""
        resp.data = self._body

    on_head = on_get


def add_gallery(app: falcon.asgi.App[Any, Any]) -> None:
    """Route `/` to the page and `/static/NAME` to each of its other files."""
    for path in STATIC.iterdir():
        uri = '/' if path.name == PAGE else f'/static/{path.name}'
        app.add_route(uri, StaticFile(path))
