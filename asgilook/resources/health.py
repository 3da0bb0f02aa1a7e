"""Liveness and readiness of the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import falcon
import falcon.asgi

from ..web.lifespan import Draining
from ..web.problems import PROBLEM_JSON

ComponentState = Literal['up', 'down', 'none']

# Seconds after which a component that has not answered is reported as down.
PROBE_TIMEOUT = 0.5


class Health:
    """The resources `/healthz/live` and `/healthz/ready`.

    Args:
        is_storage_usable: returns whether images can be read and stored; may block.
        database_state: state of the database; `none` leaves it out of the response.
        redis_state: state of Redis, which is reported but never required.
        draining: whether the service accepts no new work.
    """

    def __init__(
        self,
        *,
        is_storage_usable: Callable[[], bool],
        database_state: Callable[[], Awaitable[ComponentState]],
        redis_state: Callable[[], Awaitable[ComponentState]],
        draining: Draining,
    ) -> None:
        self._is_storage_usable = is_storage_usable
        self._database_state = database_state
        self._redis_state = redis_state
        self._draining = draining
        # A separate thread waits for no upload, and a disk that hangs blocks only it.
        self._thread = ThreadPoolExecutor(1, 'asgilook-health')

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
        components = await self._probe()
        state, detail = 'ready', ''
        for name in ('database', 'storage'):
            if components.get(name) == 'down':
                state, detail = 'unready', f'The {name} is unavailable.'
        if self._draining.is_draining:
            state, detail = 'draining', 'The service is stopping.'
        resp.media = {'state': state, **components}
        resp.cache_control = ['no-store']
        if detail:
            _make_problem(resp, detail)

    on_head_ready = on_get_ready

    async def _probe(self) -> dict[str, ComponentState]:
        storage, database, redis = await asyncio.gather(
            _within_timeout(self._storage_state()),
            _within_timeout(self._database_state()),
            _within_timeout(self._redis_state()),
        )
        components: dict[str, ComponentState] = {'storage': storage}
        if database != 'none':
            components['database'] = database
        return {**components, 'redis': redis}

    async def _storage_state(self) -> ComponentState:
        loop = asyncio.get_running_loop()
        usable = await loop.run_in_executor(self._thread, self._is_storage_usable)
        return 'up' if usable else 'down'


async def _within_timeout(state: Awaitable[ComponentState]) -> ComponentState:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            return await state
    except TimeoutError:
        return 'down'


def _make_problem(resp: falcon.asgi.Response, detail: str) -> None:
    """Make the answer an error, with its parts as extensions (RFC 9457 section 3.2)."""
    problem = {'type': 'about:blank', 'title': 'Service Unavailable', 'status': 503}
    resp.status = falcon.HTTP_503
    resp.data = json.dumps({**problem, 'detail': detail, **resp.media}).encode()
    resp.content_type = PROBLEM_JSON
    resp.retry_after = 1
