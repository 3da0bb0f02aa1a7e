"""The files of images in an object store (S3), which any number of machines share.

Object `PREFIX/ID.jpeg` is the image ID, so that a bucket can be looked at with any
tool. It takes the rights to get, put and delete objects, and to list the bucket.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import tempfile
import time
from collections.abc import Iterator
from typing import BinaryIO, cast

import obstore
from obstore.store import S3Store

from ..errors import StorageUnavailable
from ..models import Entry
from .atomic import storage_errors
from .s3_client import Faults, connect
from .s3_previews import ObjectPreviews
from .s3_reader import ObjectReader

# Seconds without an answer, after which the store counts as dead: to a readiness
# probe, to a request, and to an upload of more than LARGE bytes, which may need them.
HASTE, PATIENCE, LONG_PATIENCE = 1.0, 4.0, 30.0
LARGE = 4 * 1024 * 1024

_NAME = re.compile(r'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jpeg')
_NOWHERE = '-'  # a prefix that no object has: to list it finds the bucket, cheaply
_PAGE = 1000  # objects, as many as S3 lists at once


class ObjectStorage:
    """A `Storage` below a prefix of a bucket.

    Args:
        url: `s3://bucket/prefix?endpoint=...`, as `parsers.storage_url` has it.
        folder: of this machine, for what is on its way to the store.
    """

    def __init__(self, url: str, folder: str) -> None:
        self._url = url
        self._folder = folder
        self._faults = Faults()
        self._stores: dict[float, S3Store] = {}
        self.previews = ObjectPreviews(self.client, self._faults)

    def start(self) -> None:
        """Make the folder, and look for the bucket; raises OSError.

        A store that is down does not stop the start: the service isn't ready until it
        is back.
        """
        os.makedirs(self._folder, exist_ok=True)
        for seconds in (HASTE, PATIENCE, LONG_PATIENCE):
            self._stores[seconds] = connect(self._url, seconds)
        with contextlib.suppress(StorageUnavailable):
            self._probe(PATIENCE)

    def stop(self) -> None:
        """Let the connections go."""
        self._stores.clear()

    def client(self) -> S3Store:
        """Return the client with the usual timeout."""
        return self._stores[PATIENCE]

    def create(self) -> NewObject:
        """Begin a new object, as a local file without a name."""
        return NewObject(self, self._folder)

    def put(self, image_id: str, content: mmap.mmap) -> None:
        """Store an object, for good, in one request, which never replaces another.

        Raises `ImageExists`, `StorageFull` or `StorageUnavailable`. Where the store
        stops answering in between, the object may be there all the same.
        """
        store = self._stores[LONG_PATIENCE if len(content) > LARGE else PATIENCE]
        with self._faults.named():
            obstore.put(
                store,
                _key(image_id),
                content,
                mode='create',
                attributes={'Content-Type': 'image/jpeg'},
            )

    def open(self, image_id: str) -> BinaryIO:
        """Open an object; raises `ImageNotFound` or `StorageUnavailable`.

        To read it whole takes this one request; to read a part of it, another.
        """

        def get(options: obstore.GetOptions) -> obstore.GetResult:
            with self._faults.named():
                store = self._stores[PATIENCE]
                return obstore.get(store, _key(image_id), options=options)

        return cast(BinaryIO, ObjectReader(get, self._faults.named))

    def remove(self, image_id: str) -> None:
        """Remove an object; raises `ImageNotFound` or `StorageUnavailable`."""
        self.open(image_id).close()  # to remove what isn't there is no error to S3
        with self._faults.named():
            obstore.delete(self._stores[PATIENCE], _key(image_id))

    def is_usable(self) -> bool:
        """Tell whether the bucket can be asked now; it is not written to."""
        try:
            self._probe(HASTE)
        except StorageUnavailable:
            return False
        return True

    def entries(self) -> Iterator[Entry]:
        """Yield what is known of each image, with a page in memory at a time."""
        with self._faults.named():
            for page in obstore.list(self._stores[PATIENCE], chunk_size=_PAGE):
                for found in page:
                    if match := _NAME.fullmatch(found['path']):
                        stored_ns = round(found['last_modified'].timestamp() * 1e9)
                        yield Entry(match[1], found['size'], stored_ns)

    def _probe(self, seconds: float) -> None:
        with self._faults.named(keeps_away=seconds > HASTE):
            obstore.list(self._stores[seconds], _NOWHERE).collect()


class NewObject:
    """An object in the making: a nameless file, so that nothing is ever left of it.

    It is on disk, not in memory: any number of uploads may wait for a slow store. What
    is there only for moments the kernel hardly ever writes to the disk.
    """

    def __init__(self, storage: ObjectStorage, folder: str) -> None:
        self._storage = storage
        with storage_errors():
            self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def publish(self, image_id: str, modified_ns: int | None = None) -> tuple[int, int]:
        """Store it under its name, for good; return its length and `modified_ns`.

        It is sent from the pages of the file, without a copy in memory.
        """
        with storage_errors():
            self.file.flush()
            content = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        self._storage.put(image_id, content)
        return len(content), time.time_ns() if modified_ns is None else modified_ns

    def close(self) -> None:
        """Remove the file."""
        self.file.close()


def _key(image_id: str) -> str:
    return f'{image_id}.jpeg'
