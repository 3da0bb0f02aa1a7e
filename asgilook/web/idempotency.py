"""Uploads that may be retried: the header `Idempotency-Key`.

See draft-ietf-httpapi-idempotency-key-header. The id of the image is derived from the
key, so that any worker recognizes a retry by the image itself, at any later time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import weakref
from collections.abc import AsyncIterator

import falcon.asgi

from ..errors import InvalidRequest
from ..models import uuid_from_digest

MAX_LENGTH = 255


# A string as in structured fields (RFC 9651 section 3.3.3), with or without quotes.
_quoted = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"').fullmatch
_unquoted = re.compile(r'[!#-~][ -~]*').fullmatch


def keyed_id(req: falcon.asgi.Request) -> str | None:
    """Return the image id for the key of a request; None if it has no key.

    The id depends on the key and on the bearer token. Raises `InvalidRequest`.
    """
    value = req.get_header('Idempotency-Key')
    if value is None:
        return None
    key = _parse(value.strip())
    if not 0 < len(key) <= MAX_LENGTH:
        raise InvalidRequest(
            f'The Idempotency-Key must have 1 to {MAX_LENGTH} characters.'
        )
    token = req.get_header('Authorization', default='').partition(' ')[2].strip()
    text = f'{len(token)}:{token}{key}'
    return uuid_from_digest(hashlib.sha256(text.encode()).digest())


def _parse(value: str) -> str:
    quoted = _quoted(value)
    if quoted:
        return re.sub(r'\\(.)', r'\1', quoted[1])
    if value and not _unquoted(value):
        raise InvalidRequest('The Idempotency-Key must be a quoted ASCII string.')
    return value


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
