"""Storage of image files in an object store (S3), shared by any number of machines.

Image ID is the object `PREFIX/ID.jpeg`, so that any S3 tool can inspect the bucket.
Required permissions: get, put and delete objects, and list the bucket.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import tempfile
import time
from collections.abc import Iterator
from typing import BinaryIO, cast

import obstore
from obstore.store import S3Store

from ..errors import StorageUnavailable
from ..models import Entry
from .local import LocalFolder
from .s3_client import Guard, ObjectReader, connect
from .s3_previews import ObjectPreviews

# Seconds without data after which the store counts as unavailable: for a readiness
# probe, for a request, and for an upload of more than LARGE bytes.
SHORT_TIMEOUT, TIMEOUT, LONG_TIMEOUT = 1.0, 4.0, 30.0
LARGE = 4 * 1024 * 1024

_NAME = re.compile(r'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jpeg')
_NO_PREFIX = '-'  # no object has it: listing it is a cheap test of the bucket
_PAGE_SIZE = 1000  # objects in one response, the maximum of S3


class ObjectStorage:
    """A `Storage` below a prefix of a bucket.

    Args:
        url: `s3://bucket/prefix?endpoint=...`, see `backend_urls.storage_url`.
        folder: local folder for objects that are being uploaded.
    """

    def __init__(self, url: str, folder: str) -> None:
        self._url = url
        self.local = LocalFolder(folder)
        self._guard = Guard()
        self._stores: dict[float, S3Store] = {}
        self.previews = ObjectPreviews(client=self.client, guard=self._guard)

    def start(self) -> None:
        """Create the local folder, if possible now, and test the bucket.

        An unavailable object store is not an error: the service is not ready until it
        responds.
        """
        self.local.prepare()
        for timeout in (SHORT_TIMEOUT, TIMEOUT, LONG_TIMEOUT):
            self._stores[timeout] = connect(self._url, timeout)
        with contextlib.suppress(StorageUnavailable):
            self._probe(TIMEOUT)

    def stop(self) -> None:
        """Close the connections."""
        self._stores.clear()

    def client(self) -> S3Store:
        """Return the client with the usual timeout."""
        return self._stores[TIMEOUT]

    def create(self) -> NewObject:
        """Return a new object, written to an unnamed local file first."""
        return NewObject(self)

    def put(self, image_id: str, content: mmap.mmap) -> None:
        """Store an object durably, in one request that never replaces another object.

        Raises `ImageExists`, `StorageFull` or `StorageUnavailable`. After the last one
        the object may exist: the response can be lost after the store has written it.
        """
        store = self._stores[LONG_TIMEOUT if len(content) > LARGE else TIMEOUT]
        with self._guard.call():
            obstore.put(
                store,
                _key(image_id),
                content,
                mode='create',
                attributes={'Content-Type': 'image/jpeg'},
            )

    def open(self, image_id: str) -> BinaryIO:
        """Open an object; raises `ImageNotFound` or `StorageUnavailable`.

        Reading the whole object takes this one request; reading a part, another one.
        """

        def get(options: obstore.GetOptions) -> obstore.GetResult:
            with self._guard.call():
                store = self._stores[TIMEOUT]
                return obstore.get(store, _key(image_id), options=options)

        return cast(BinaryIO, ObjectReader(get=get, guard=self._guard.call))

    def remove(self, image_id: str) -> None:
        """Remove an object; raises `ImageNotFound` or `StorageUnavailable`."""
        self.open(image_id).close()  # S3 reports no error for a missing object
        with self._guard.call():
            obstore.delete(self._stores[TIMEOUT], _key(image_id))

    def is_usable(self) -> bool:
        """Return whether the bucket responds, and the local folder can be used.

        Nothing is written.
        """
        if not self.local.probe():
            return False
        try:
            self._probe(SHORT_TIMEOUT)
        except StorageUnavailable:
            return False
        return True

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for each image, with one page of the list in memory."""
        with self._guard.call():
            for page in obstore.list(self._stores[TIMEOUT], chunk_size=_PAGE_SIZE):
                for found in page:
                    if match := _NAME.fullmatch(found['path']):
                        stored_ns = round(found['last_modified'].timestamp() * 1e9)
                        yield Entry(match[1], found['size'], stored_ns)

    def _probe(self, timeout: float) -> None:
        with self._guard.call(may_open=timeout > SHORT_TIMEOUT):
            obstore.list(self._stores[timeout], _NO_PREFIX).collect()


class NewObject:
    """An object that is being written, to an unnamed file that leaves nothing behind.

    It is on disk, not in memory, as many uploads may wait for a slow store. The kernel
    hardly ever writes such a short-lived file to the disk.
    """

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage
        self._local = storage.local
        with self._local.writing():
            self.file = tempfile.TemporaryFile(dir=self._local.path)  # noqa: SIM115

    def publish(
        self, image_id: str, modified_ns: int | None = None, *, exclusive: bool = False
    ) -> tuple[int, int]:
        """Store it durably under its name; return its length and `modified_ns`.

        It is sent from the file's pages, without a copy in memory.
        """
        with self._local.writing():
            self.file.flush()
            content = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        self._local.written()
        self._storage.put(image_id, content)
        return len(content), time.time_ns() if modified_ns is None else modified_ns

    def close(self) -> None:
        """Remove the file."""
        self.file.close()


def _key(image_id: str) -> str:
    return f'{image_id}.jpeg'
