"""Liveness and readiness of the service."""

from __future__ import annotations

import falcon.asgi

from ..web.lifespan import Draining
from ..web.problems import problem_response
from .probes import Probes

# Details for required components that are unavailable; the log has the reason.
_DETAILS = {
    'database': 'The database is unavailable or read-only.',
    'storage': 'The storage is unavailable, read-only or full.',
}


class Health:
    """The resources `/healthz/live` and `/healthz/ready`.

    Redis is reported but never required.
    """

    def __init__(self, probes: Probes, draining: Draining) -> None:
        self._probes = probes
        self._draining = draining

    async def on_get_live(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send 200: any response shows that the event loop runs."""
        resp.media = {'state': 'live'}
        resp.cache_control = ['no-store']

    on_head_live = on_get_live

    async def on_get_ready(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send the state of each component; 503 if no requests should be sent here."""
        components = await self._probes.components()
        state, detail = 'ready', ''
        for name in _DETAILS:
            if components.get(name) == 'down':
                state, detail = 'unready', _DETAILS[name]
        if self._draining.is_draining:
            state, detail = 'draining', 'The service is stopping.'
        resp.media = {'state': state, **components}
        resp.cache_control = ['no-store']
        if detail:
            headers = {'retry-after': '1'}
            problem_response(503, detail, headers=headers, **resp.media).send_as(resp)

    on_head_ready = on_get_ready
