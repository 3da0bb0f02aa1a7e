"""The response cache: Falcon middleware with two tiers, in process and in Redis.

There is one key for a URL, and its value carries the ETag of what it holds; it counts
only if the resource, asked in this very request, would answer with that ETag. So a
list that was read before a POST or DELETE, and stored after it, is a Miss, and so is
a thumbnail of another quality or an image that is gone: nothing has to be invalidated
in time, and what is deleted after a change only saves memory.
"""

from __future__ import annotations

from typing import Any, Literal

import cachetools
import falcon
import falcon.asgi
import msgpack

from .config import DEFAULT_CACHE_TTL, Config
from .errors import AsgilookError
from .redis_clients.client import Redis
from .redis_clients.factory import create_driver
from .web.conditional import Representation

_VERSION = 1

# What the schema adds around a body: version, ETag, content type, lengths.
_OVERHEAD = 1024

Found = tuple[bytes | None, str | None]
_NOTHING = (None, None)


class RedisCache:
    """Falcon middleware that answers GET and HEAD from a cache, and fills it."""

    PREFIX = 'asgilook:'
    INVALIDATE_ON = frozenset({'DELETE', 'POST', 'PUT'})
    CACHE_HEADER = 'X-ASGILook-Cache'
    TTL = DEFAULT_CACHE_TTL

    def __init__(self, config: Config) -> None:
        self._ttl = config.cache_ttl
        self._body_size = config.cache_body_size
        self._redis = Redis(create_driver(config), config.redis_timeout)
        self._memory: cachetools.LRUCache[str, tuple[str, bytes]]
        self._memory = cachetools.LRUCache(
            config.cache_memory, getsizeof=lambda value: len(value[1])
        )

    async def redis_state(self) -> Literal['up', 'down', 'none']:
        """Tell whether Redis works, or that there is none."""
        return await self._redis.state()

    async def process_startup(self, scope: Any, event: Any) -> None:
        """Connect to Redis, where there is one."""
        await self._redis.start()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        """Close the connections to Redis."""
        await self._redis.stop()

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        params: dict[str, Any],
    ) -> None:
        """Answer with the body of the representation that the resource has named."""
        resp.context.hit = None
        representation = resp.context.representation
        if representation is not None and representation.key is not None:
            found = req.scope.get('found') or await self.find(representation)
            resp.data, resp.context.hit = found
            resp.complete = resp.data is not None

    async def find(self, representation: Representation) -> Found:
        """Return the body and the tier, memory or redis, that had it."""
        key = self.PREFIX + str(representation.key)
        etag, body = self._memory.get(key, _NOTHING)
        if etag == representation.etag:
            return body, 'memory'
        value = await self._redis.get(key, self._body_size + _OVERHEAD)
        body = unpack(value, representation) if value else None
        if body is None:
            return _NOTHING
        self._remember(key, representation, body)
        return body, 'redis'

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        """Keep what was rendered; forget what a POST or DELETE has made useless."""
        if not req_succeeded:
            return
        if req.method in self.INVALIDATE_ON:
            keys = [self.PREFIX + key for key in resp.context.get('stale') or ()]
            await self._forget(keys)
            return
        representation = resp.context.representation
        if representation is None or resp.status == falcon.HTTP_304:
            return
        hit = resp.context.hit
        resp.set_header(self.CACHE_HEADER, 'Hit' if hit else 'Miss')
        if representation.key is not None:
            req.scope['cache'] = hit or 'miss'
        if hit:
            req.scope['hit'] = representation
            resp.set_header('Cache-Status', f'ASGILook; hit; detail={hit}')
            return
        stored = await self._keep(req, resp, representation)
        status = 'fwd=uri-miss' + ('; stored' if stored else '')
        resp.set_header('Cache-Status', f'ASGILook; {status}')

    async def _keep(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        representation: Representation,
    ) -> bool:
        """Store a whole, rendered body that a GET of its canonical URL has made."""
        if representation.key is None or req.method != 'GET' or req.query_string:
            return False
        body = await resp.render_body() if resp.status == falcon.HTTP_200 else None
        if body is None or len(body) > self._body_size:
            return False
        key = self.PREFIX + representation.key
        self._remember(key, representation, body)
        await self._redis.set(key, pack(representation, body), self._ttl)
        try:
            # A DELETE may have come between: no copy must outlive the image.
            await resp.context.identify()
        except AsgilookError:
            await self._forget([key])
        return True

    def _remember(self, key: str, representation: Representation, body: bytes) -> None:
        """Keep an immutable body in this process."""
        if representation.image is not None and len(body) <= self._memory.maxsize:
            self._memory[key] = representation.etag, body

    async def _forget(self, keys: list[str]) -> None:
        for key in keys:
            self._memory.pop(key, None)
        await self._redis.delete(*keys)


def pack(representation: Representation, body: bytes) -> bytes:
    """Make the MessagePack value of a body: version, ETag, content type, body."""
    value = [_VERSION, representation.etag, representation.content_type, body]
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(value: bytes, representation: Representation) -> bytes | None:
    """Return the body, if the value is whole and holds this very representation."""
    try:
        *head, body = msgpack.unpackb(value, raw=False)
    except Exception:  # garbage may fail in any way, and is a Miss
        return None
    expected = [_VERSION, representation.etag, representation.content_type]
    return body if head == expected and isinstance(body, bytes) else None
