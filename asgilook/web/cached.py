"""Cached responses, which can be sent without Falcon.

They have the status, headers and body that Falcon would send, as both are built from
the same representation. `DecisiveHeaders` determines which requests Falcon has to
handle.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, get_args

from ..config import Config
from .asgi_types import HeaderBlock
from .cors import depends_on_origin
from .record import Record, Representation

Tier = Literal['memory', 'redis']

CACHE_HEADER = 'X-ASGILook-Cache'

# Responses in memory, including those without their bodies.
MAX_ENTRIES = 16384

_PRECONDITIONS = frozenset({b'if-match', b'if-unmodified-since'})
_VALIDATORS = frozenset({b'if-none-match', b'if-modified-since'})
_RANGES = frozenset({b'range', b'if-range'})
_CORS = frozenset({b'origin'})


class DecisiveHeaders:
    """The request headers that can change the response to a GET of a cached URL.

    `Accept` is the only other one: it selects among the representations of a negotiated
    URL. Other headers, which browsers and proxies add, have no effect.

    Attributes:
        for_body: headers that can change a 200.
        for_unmodified: headers that can change the 304 for a matching `If-None-Match`,
            which takes precedence over the others (RFC 9110 section 13.2.2).
    """

    def __init__(self, config: Config) -> None:
        origin = _CORS if depends_on_origin(config) else frozenset()
        self.for_unmodified = _PRECONDITIONS | origin
        self.for_body = self.for_unmodified | _VALIDATORS | _RANGES


@dataclasses.dataclass(slots=True)
class CachedResponse:
    """A response whose body is in memory, or else in Redis.

    Attributes:
        representation: the representation from which it was built.
        target: canonical URL path, with the query if there is one.
        route: URL template of its resource, for the metrics.
        length: of the body, in bytes.
        body: None if only Redis has it.
        etag: as in `If-None-Match`.
        heads: headers of the 200, by the tier that has the body.
        unmodified_head: headers of the 304.
    """

    representation: Representation
    target: str | None
    route: str | None
    length: int
    body: bytes | None
    etag: bytes
    heads: dict[Tier, HeaderBlock]
    unmodified_head: HeaderBlock


class MemoryTier(OrderedDict[str, CachedResponse]):
    """Cached responses by their keys, the most recently used last.

    Their number is limited to `MAX_ENTRIES`, their bodies to `max_bytes` in total: the
    least recently used are dropped.

    PERF: a mapping, so that a look-up calls no Python function.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self._bytes = 0

    def put(self, entry: CachedResponse) -> None:
        """Add or replace an entry; a body larger than the tier is left out."""
        key = str(entry.representation.key)
        self.drop(key)
        if entry.length > self.max_bytes:
            entry.body = None
        self[key] = entry
        self._bytes += _size(entry)
        while self._bytes > self.max_bytes or len(self) > MAX_ENTRIES:
            self.drop(next(iter(self)))

    def drop(self, key: str) -> None:
        """Remove an entry, if there is one."""
        entry = self.pop(key, None)
        if entry is not None:
            self._bytes -= _size(entry)


def _size(entry: CachedResponse) -> int:
    return 0 if entry.body is None else entry.length


def make_response(
    record: Record, representation: Representation, body: bytes
) -> CachedResponse:
    """Build a response; its headers are in the order of the middleware."""
    common = _encode(representation.headers)
    entity = {
        'content-type': representation.content_type,
        'content-length': str(len(body)),
    }
    heads: dict[Tier, HeaderBlock] = {
        tier: HeaderBlock(
            _encode(hit_headers(tier).items()) + common + _encode(entity.items())
        )
        for tier in get_args(Tier)
    }
    return CachedResponse(
        representation,
        record.target,
        record.route,
        length=len(body),
        body=body,
        etag=f'"{representation.etag}"'.encode(),
        heads=heads,
        unmodified_head=HeaderBlock(common),
    )


def hit_headers(tier: str) -> dict[str, str]:
    """Return the headers that state which tier had the body (RFC 9211)."""
    return {CACHE_HEADER: 'Hit', 'Cache-Status': f'ASGILook; hit; detail={tier}'}


def _encode(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(_encode_header(name, value) for name, value in headers)


@lru_cache(256)
def _encode_header(name: str, value: str) -> tuple[bytes, bytes]:
    # PERF: most headers are the same for all entries, which share their memory.
    return name.lower().encode(), value.encode()
