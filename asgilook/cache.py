"""The response cache: Falcon middleware with two tiers, in memory and in Redis.

Each URL has one key, or one per media type. A value contains the ETag of its body, and
is used only if the resource would send that ETag now. So a list that was read before a
POST or DELETE and stored after it is a miss, as is a thumbnail of another quality or of
a deleted image. Correctness does not depend on invalidation, which only frees memory.

The memory tier also serves plain hits and their 304s before Falcon sees the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import falcon
import falcon.asgi
import msgpack

from .config import DEFAULT_CACHE_TTL, Config
from .errors import StorageUnavailable
from .redis_clients.client import Redis
from .redis_clients.factory import create_driver
from .web.asgi_types import HeaderBlock
from .web.cached import (
    CACHE_HEADER,
    CachedResponse,
    DecisiveHeaders,
    MemoryTier,
    Tier,
    hit_headers,
    make_response,
)
from .web.conditional import preferred_type
from .web.record import Record, Representation, record_of

_VERSION = 1

# Bytes that the format of a Redis value adds to a body: version, ETag, media type.
_OVERHEAD = 1024


class RedisCache:
    """Falcon middleware that answers GET and HEAD from a cache, and fills it.

    Args:
        config: the settings.
        negotiated: for each URL with several representations, the cache key of each
            media type.
    """

    PREFIX = 'asgilook:'
    INVALIDATE_ON = frozenset({'DELETE', 'POST', 'PUT'})
    CACHE_HEADER = CACHE_HEADER
    # Default of the setting `cache_ttl`, in seconds.
    TTL = DEFAULT_CACHE_TTL

    def __init__(
        self,
        config: Config,
        *,
        negotiated: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._ttl = config.cache_ttl
        self._body_size = config.cache_body_size
        self._redis = Redis(create_driver(config), config.redis_timeout)
        self._memory = MemoryTier(config.cache_memory)
        self._decisive = DecisiveHeaders(config)
        self._negotiated = negotiated or {}

    async def redis_state(self) -> Literal['up', 'down', 'none']:
        """Return the state of Redis; `none` if none is configured."""
        return await self._redis.state()

    async def process_startup(self, scope: Any, event: Any) -> None:
        """Connect to Redis; a failure is logged, and never raised."""
        await self._redis.start()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        """Close the connections to Redis."""
        await self._redis.stop()

    async def answer(self, record: Record) -> tuple[int, HeaderBlock, bytes] | None:
        """Answer a plain GET of a known URL, or its revalidation, without Falcon.

        Returns status, headers and body; None leaves the request to Falcon.
        """
        key = self._key(record)
        entry = self._memory.get(key) if record.method == 'GET' else None
        if entry is None or entry.target != record.target:
            return None
        self._memory.move_to_end(key)
        headers, decisive = record.headers, self._decisive
        unmodified = headers.get(b'if-none-match') == entry.etag
        names = decisive.for_unmodified if unmodified else decisive.for_body
        if not names.isdisjoint(headers) or not await self._is_current(entry):
            return None
        if unmodified:
            record.route = entry.route
            return 304, entry.unmodified_head, b''
        found = await self._find(entry.representation)
        if found is None or len(found[0]) != entry.length:
            return None
        body, tier = found
        record.route, record.cache = entry.route, tier
        return 200, entry.heads[tier], body

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        params: dict[str, Any],
    ) -> None:
        """Answer with the body of the representation that the resource identified."""
        record = record_of(req)
        representation = record.representation
        if representation is None or representation.key is None:
            return
        found = await self._find(representation)
        if found is None:
            return
        body, record.cache = found
        resp.data, resp.complete = body, True
        if record.cache == 'redis' and self._key(record) == representation.key:
            self._memory.put(make_response(record, representation, body))

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        """Store what was rendered; drop what a POST or DELETE has made stale."""
        if not req_succeeded:
            return
        if req.method in self.INVALIDATE_ON:
            await self._drop(*(resp.context.get('stale_keys') or ()))
            return
        record = record_of(req)
        representation = record.representation
        if representation is None or resp.status == falcon.HTTP_304:
            return
        if record.cache is not None:
            resp.set_headers(hit_headers(record.cache))
            return
        resp.set_header(self.CACHE_HEADER, 'Miss')
        stored = False
        if representation.key is not None:
            record.cache = 'miss'
            if req.method == 'GET' and self._key(record) == representation.key:
                stored = await self._keep(resp, record, representation)
        status = 'fwd=uri-miss' + ('; stored' if stored else '')
        resp.set_header('Cache-Status', f'ASGILook; {status}')

    def _key(self, record: Record) -> str:
        """Return the cache key for a request; empty if there is none."""
        target = record.target or ''
        keys = self._negotiated.get(target)
        if keys is None:
            return target
        accept = record.headers.get(b'accept', b'').decode('latin-1')
        return keys[preferred_type(tuple(keys), accept)]

    async def _is_current(self, entry: CachedResponse) -> bool:
        try:
            current = await entry.representation.is_current()
        except StorageUnavailable:
            return False  # Falcon answers, and reports it if it is still so
        if not current:
            self._memory.drop(str(entry.representation.key))
        return current

    async def _find(self, representation: Representation) -> tuple[bytes, Tier] | None:
        """Return the body and the tier that had it."""
        key = str(representation.key)
        entry = self._memory.get(key)
        if (
            entry is not None
            and entry.body is not None
            and entry.representation.etag == representation.etag
        ):
            self._memory.move_to_end(key)
            return entry.body, 'memory'
        limit = self._body_size + _OVERHEAD
        value = await self._redis.get(self.PREFIX + key, limit)
        body = unpack(value, representation) if value else None
        return None if body is None else (body, 'redis')

    async def _keep(
        self,
        resp: falcon.asgi.Response,
        record: Record,
        representation: Representation,
    ) -> bool:
        """Store a whole, rendered body in both tiers; return whether it was stored."""
        body = await resp.render_body() if resp.status == falcon.HTTP_200 else None
        if body is None or len(body) > self._body_size:
            return False
        key = str(representation.key)
        entry = make_response(record, representation, body)
        in_memory = len(body) <= self._memory.max_bytes
        if in_memory:
            self._memory.put(entry)
        value = pack(representation, body)
        in_redis = await self._redis.set(self.PREFIX + key, value, self._ttl)
        if representation.image is not None and not await self._is_current(entry):
            # A DELETE came between: no copy may outlive the image.
            await self._drop(key)
            return False
        return in_memory or in_redis

    async def _drop(self, *keys: str) -> None:
        for key in keys:
            self._memory.drop(key)
        await self._redis.delete(*(self.PREFIX + key for key in keys))


def pack(representation: Representation, body: bytes) -> bytes:
    """Return the MessagePack value of a body: version, ETag, media type, body."""
    value = [_VERSION, representation.etag, representation.content_type, body]
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(value: bytes, representation: Representation) -> bytes | None:
    """Return the body if the value is complete and of this representation."""
    try:
        *head, body = msgpack.unpackb(value, raw=False)
    except Exception:  # a foreign value may fail in any way, and is a miss
        return None
    expected = [_VERSION, representation.etag, representation.content_type]
    return body if head == expected and isinstance(body, bytes) else None
