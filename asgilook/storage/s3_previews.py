"""Previews in an object store, below the prefix `previews/`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ..errors import StorageUnavailable
from ..models import UUID
from .s3_client import Guard, loggable_reason

PREFIX = 'previews'

_match_path = re.compile(f'{PREFIX}/({UUID.pattern})[.]jpeg').fullmatch
_PAGE_SIZE = 1000  # S3 lists this many objects per request


class ObjectPreviews:
    """Previews as objects `previews/ID.jpeg`, each of which begins with a JPEG.

    Args:
        client: returns the client of the object store.
        guard: maps the errors of reads, and rejects calls to a store that hangs.
    """

    def __init__(self, *, client: Callable[[], S3Store], guard: Guard) -> None:
        self._client = client
        self._guard = guard

    def read(self, image_id: str) -> bytes:
        """Return an object; raises `ImageNotFound` or `StorageUnavailable`."""
        with self._guard.call():
            return bytes(obstore.get(self._client(), _path(image_id)).bytes())

    def write(self, image_id: str, content: bytes) -> None:
        """Store an object; raises `StorageUnavailable`.

        A bucket that is read-only must not count as one that is unavailable.
        """
        self._guard.check()
        try:
            obstore.put(
                self._client(),
                _path(image_id),
                content,
                attributes={'Content-Type': 'image/jpeg'},
            )
        except (BaseError, OSError) as ex:
            raise StorageUnavailable(loggable_reason(ex)) from None

    def remove(self, image_id: str) -> None:
        """Remove an object if it exists; raises `StorageUnavailable`."""
        self._guard.check()
        try:
            obstore.delete(self._client(), _path(image_id))
        except (BaseError, OSError) as ex:
            raise StorageUnavailable(loggable_reason(ex)) from None

    def image_ids(self) -> Iterator[str]:
        """Yield the image ids of all objects; raises `StorageUnavailable`."""
        with self._guard.call():
            for page in obstore.list(self._client(), PREFIX, chunk_size=_PAGE_SIZE):
                for found in page:
                    if match := _match_path(found['path']):
                        yield match[1]


def _path(image_id: str) -> str:
    return f'{PREFIX}/{image_id}.jpeg'
