"""`asgilook import FOLDER`: stores the image files of a folder, like uploads.

The id of an image is derived from the file's bytes, so a repeated import, on any
machine, recognizes images that are already stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from weakref import WeakValueDictionary

from ..config import Config, ConfigError
from ..errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    InvalidRequest,
    StorageFull,
    StorageUnavailable,
)
from ..models import uuid_from_digest
from ..storage.factory import local_folder
from ..store import Store
from ..web.uploads import too_large
from .bulk import Bulk, Progress
from .places import require_folder


class Importer(Bulk):
    """Stores files in an open store.

    Attributes:
        imported: number of files that were stored.
        present: number of files that were stored already.
    """

    def __init__(self, config: Config, store: Store, progress: Progress) -> None:
        super().__init__(config.threads, progress)
        self._limit = config.max_upload_size
        self._store = store
        # Files with equal bytes are processed one at a time.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.imported = 0
        self.present = 0

    async def run(self, paths: Iterator[str]) -> None:
        """Import files, as many at a time as there are worker threads."""
        await self.process_all(paths, self._import)

    def reject_folder(self, ex: OSError) -> None:
        """Count a folder that can't be listed."""
        self.reject(ex.filename, ex.strerror or str(ex))

    async def _import(self, path: str) -> None:
        try:
            data = await asyncio.to_thread(read, path, self._limit)
            await self._store_once(content_id(data), data)
        except ImageExists as ex:
            self.reject(path, f'{ex} If it is not listed, run asgilook check.')
        except (StorageFull, StorageUnavailable):
            raise
        except AsgilookError as ex:
            self.reject(path, str(ex))
        except OSError as ex:
            self.reject(path, ex.strerror or str(ex))
        except MemoryError:
            self.reject(path, 'Out of memory.')

    async def _store_once(self, image_id: str, data: bytes) -> None:
        async with self._locks.setdefault(image_id, asyncio.Lock()):
            try:
                await self._store.get(image_id)
                self.present += 1
            except ImageNotFound:
                await self._save(image_id, data)
                self.imported += 1

    async def _save(self, image_id: str, data: bytes) -> None:
        async with self._store.upload() as upload:
            await upload.write(data)
            await self._store.save(image_id, upload)


def content_id(data: bytes) -> str:
    """Return the id of an imported image, derived from its bytes."""
    return uuid_from_digest(hashlib.sha256(data).digest())


def walk(
    folder: str, on_error: Callable[[OSError], None] | None = None
) -> Iterator[str]:
    """Yield the path of every file below a folder, always in the same order.

    Hidden files and folders are skipped, and symbolic links to folders are not
    followed. `on_error` is called for each folder that can't be listed.
    """
    for path, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = _visible(folders)
        for name in _visible(names):
            yield os.path.join(path, name)


def _visible(names: list[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith('.'))


def read(path: str, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises OSError, `UploadTooLarge`, and `InvalidRequest` for a file that is empty,
    not a regular file, or being written.
    """
    # NOTE(pipes): without O_NONBLOCK, opening a pipe without a writer blocks.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, 'rb') as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequest('Not a regular file.')
        if status.st_size > limit:
            raise too_large(limit, status.st_size)
        data = file.read(status.st_size + 1)
    if len(data) != status.st_size:
        raise InvalidRequest('The file changed while it was read.')
    if not data:
        raise InvalidRequest('The file is empty; expected an image.')
    return data


def import_folder(config: Config, folder: str) -> int:
    """Import a folder, print a summary, and return the exit code.

    Raises `ConfigError`.
    """
    _validate(folder, local_folder(config))
    total = sum(1 for _ in walk(folder))
    with closing(Progress(total, sys.stderr)) as progress:
        importer = Importer(config, store := Store(config), progress)
        asyncio.run(_run(config, importer, store, folder))
    counts = f'imported {importer.imported}, already present {importer.present}'
    return importer.report(counts)


def _validate(folder: str, storage: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as ex:
        raise ConfigError(f'{folder}: {ex.strerror}') from None
    folder, storage = os.path.realpath(folder), os.path.realpath(storage)
    if os.path.commonpath([folder, storage]) == folder:
        raise ConfigError(f'{folder}: is or contains the storage folder')


async def _run(config: Config, importer: Importer, store: Store, folder: str) -> None:
    importer.handle_signals()
    await store.start()
    try:
        require_folder(config)
        await importer.run(walk(folder, importer.reject_folder))
    finally:
        await store.stop()
