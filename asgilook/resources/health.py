"""Whether the service lives, and whether it is to be sent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import falcon
import falcon.asgi

from ..web.lifespan import Draining
from ..web.problems import problem_response

State = Literal['up', 'down', 'none']

# A part that has not answered after so many seconds is down.
PATIENCE = 0.5


class Health:
    """`/healthz/live` and `/healthz/ready`.

    Args:
        storage: tells whether images can be read and stored; it may block.
        database: asks the database; where there is none, it isn't mentioned.
        redis: asks Redis, which is reported but never required.
        draining: set once no new work is to be begun.
    """

    def __init__(
        self,
        storage: Callable[[], bool],
        database: Callable[[], Awaitable[State]],
        redis: Callable[[], Awaitable[State]],
        draining: Draining,
    ) -> None:
        self._is_usable = storage
        self._database = database
        self._redis = redis
        self._draining = draining
        # Of its own, so that it waits for no upload, and a dead disk holds only it.
        self._thread = ThreadPoolExecutor(1, 'asgilook-health')

    async def on_get_live(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Answer: that alone shows that the event loop runs."""
        resp.media = {'state': 'live'}
        resp.cache_control = ['no-store']

    on_head_live = on_get_live

    async def on_get_ready(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Say what of the service works, and with 503 that it can't go on like that."""
        parts = await self._ask()
        state, detail = 'ready', ''
        for part in ('database', 'storage'):
            if parts.get(part) == 'down':
                state, detail = 'unready', f"The {part} can't be used now."
        if self._draining.is_draining:
            state, detail = 'draining', 'The service is stopping.'
        resp.media = {'state': state, **parts}
        resp.cache_control = ['no-store']
        if detail:
            headers = {'retry-after': '1'}
            problem_response(503, detail, headers=headers, **resp.media).send_as(resp)

    on_head_ready = on_get_ready

    async def _ask(self) -> dict[str, State]:
        storage, database, redis = await asyncio.gather(
            _soon(self._storage()), _soon(self._database()), _soon(self._redis())
        )
        found: dict[str, State] = {'storage': storage}
        if database != 'none':
            found['database'] = database
        return {**found, 'redis': redis}

    async def _storage(self) -> State:
        loop = asyncio.get_running_loop()
        usable = await loop.run_in_executor(self._thread, self._is_usable)
        return 'up' if usable else 'down'


async def _soon(state: Awaitable[State]) -> State:
    try:
        async with asyncio.timeout(PATIENCE):
            return await state
    except TimeoutError:
        return 'down'
