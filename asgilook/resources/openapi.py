"""The OpenAPI 3.1 document of the service, maintained by hand."""

from __future__ import annotations

from importlib import resources

import falcon
import falcon.asgi


class OpenApi:
    """The resource `/openapi.json`."""

    def __init__(self) -> None:
        self._body = (resources.files(__package__) / 'openapi.json').read_bytes()

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send the document."""
        resp.data = self._body
        resp.content_type = falcon.MEDIA_JSON
        resp.cache_control = ['public', 'max-age=3600']
        resp.set_header('X-Content-Type-Options', 'nosniff')

    on_head = on_get
