"""Uploads that may be retried: the header `Idempotency-Key`.

See draft-ietf-httpapi-idempotency-key-header. The id of the image is derived from the
key, so that any worker recognizes a retry by the image itself, at any later time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
import weakref
from collections.abc import AsyncIterator

import falcon.asgi

from ..errors import InvalidRequest

MAX_LENGTH = 255


def keyed_id(req: falcon.asgi.Request) -> str | None:
    """Return the image id for the key of a request; None if it has no key.

    The key is a quoted string (RFC 9651 section 3.3.3), or the same without quotes. It
    belongs to the token of the request. Raises `InvalidRequest` for a key of more than
    255 characters.
    """
    key = req.get_header('Idempotency-Key', default='').strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        return None
    if len(key) > MAX_LENGTH:
        raise InvalidRequest(f'Idempotency-Key has more than {MAX_LENGTH} characters.')
    owner = req.get_header('Authorization', default='').partition(' ')[2].strip()
    digest = hashlib.blake2b(f'{owner}\0{key}'.encode(), digest_size=16)
    return str(uuid.UUID(bytes=digest.digest(), version=4))


class KeyedLocks:
    """Locks by key, each kept for as long as it is in use."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock]
        self._locks = weakref.WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of `key`."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield
