"""Previews in an object store, below the prefix `previews/`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ..errors import StorageUnavailable
from ..models import UUID
from .s3_client import Faults

PREFIX = 'previews'

_match_path = re.compile(f'{PREFIX}/({UUID.pattern})[.]jpeg').fullmatch
_PAGE_SIZE = 1000  # S3 lists this many objects per request


class ObjectPreviews:
    """Previews as objects `previews/ID.jpeg`.

    Args:
        client: returns the client of the object store.
        faults: translates and logs errors of reads.
    """

    def __init__(self, client: Callable[[], S3Store], faults: Faults) -> None:
        self._client = client
        self._faults = faults

    def read(self, image_id: str) -> bytes:
        """Return an object; raises `ImageNotFound` or `StorageUnavailable`."""
        with self._faults.named():
            return bytes(obstore.get(self._client(), _path(image_id)).bytes())

    def write(self, image_id: str, content: bytes) -> None:
        """Store an object; raises `StorageUnavailable`.

        A bucket that is read-only must not count as one that is unavailable.
        """
        try:
            obstore.put(
                self._client(),
                _path(image_id),
                content,
                attributes={'Content-Type': 'image/jpeg'},
            )
        except (BaseError, OSError) as ex:
            raise _error(ex) from ex

    def remove(self, image_id: str) -> None:
        """Remove an object if it exists; raises `StorageUnavailable`."""
        try:
            obstore.delete(self._client(), _path(image_id))
        except (BaseError, OSError) as ex:
            raise _error(ex) from ex

    def image_ids(self) -> Iterator[str]:
        """Yield the image ids of all objects; raises `StorageUnavailable`."""
        with self._faults.named():
            for page in obstore.list(self._client(), PREFIX, chunk_size=_PAGE_SIZE):
                for found in page:
                    if match := _match_path(found['path']):
                        yield match[1]


def _path(image_id: str) -> str:
    return f'{PREFIX}/{image_id}.jpeg'


def _error(ex: Exception) -> StorageUnavailable:
    """Return an error for the log, without the store's answer, which may hold keys."""
    return StorageUnavailable(re.split('[<\n]', str(ex), maxsplit=1)[0].strip())
