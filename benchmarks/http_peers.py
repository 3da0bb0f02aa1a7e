"""Peers of `http.py`: a bare Falcon resource, and the tutorial's cache and stream.

Each is a factory for uvicorn. BODY is the path of the file that they send, NAME part of
its key in Redis.
"""

from __future__ import annotations

import os
from typing import Any

import aiofiles
import aioredis
import falcon.asgi
import msgpack


class Bytes:
    """A resource that always returns the same bytes."""

    def __init__(self) -> None:
        with open(os.environ['BODY'], 'rb') as file:
            self._body = file.read()

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.content_type = falcon.MEDIA_JPEG
        resp.data = self._body


class Stream:
    """A resource that streams a file through aiofiles, in Falcon's 8 KiB blocks."""

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.content_type = falcon.MEDIA_JPEG
        resp.stream = await aiofiles.open(os.environ['BODY'], 'rb')


class TutorialCache:
    """Middleware as in the tutorial."""

    async def process_startup(self, scope: Any, event: Any) -> None:
        self._redis = await aioredis.create_redis_pool(os.environ['REDIS'])

    async def process_request(self, req: Any, resp: Any) -> None:
        resp.context.cached = False
        value = await self._redis.get(f'benchmark:{os.environ["NAME"]}')
        if value is not None:
            resp.content_type, resp.data = msgpack.unpackb(value, raw=False)
            resp.set_header('X-ASGILook-Cache', 'Hit')
            resp.context.cached = resp.complete = True

    async def process_response(
        self, req: Any, resp: Any, resource: Any, req_succeeded: bool
    ) -> None:
        if req_succeeded and not resp.context.cached:
            body = await resp.render_body()
            value = msgpack.packb([resp.content_type, body], use_bin_type=True)
            await self._redis.set(f'benchmark:{os.environ["NAME"]}', value, expire=60)


def bare() -> falcon.asgi.App[Any, Any]:
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    app.add_route('/bytes', Bytes())
    return app


def tutorial() -> falcon.asgi.App[Any, Any]:
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=[TutorialCache()])
    app.add_route('/bytes', Bytes())
    return app


def stream() -> falcon.asgi.App[Any, Any]:
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    app.add_route('/bytes', Stream())
    return app
