"""The resource `/events`."""

from __future__ import annotations

import io

import falcon
import falcon.asgi

from .hub import Hub

_HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Type': 'text/event-stream',
    'X-Accel-Buffering': 'no',
    'X-Content-Type-Options': 'nosniff',
}


class Events:
    """The event stream."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Stream events from now on, or those after the client's last one."""
        resp.set_headers(_HEADERS)
        resp.sse = self._hub.subscribe(req.get_header('Last-Event-ID'))

    async def on_head(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Return the headers of `on_get`."""
        resp.set_headers(_HEADERS)
        # NOTE(falcon): without a stream, which is not read, it sends a length of 0.
        resp.stream = io.BytesIO()  # type: ignore[assignment]
