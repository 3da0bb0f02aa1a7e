"""`asgilook import`: a folder of pictures goes the way of uploads, without HTTP.

The id of a picture is made from its bytes: so a second run, on any machine, finds what
an earlier one has stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from weakref import WeakValueDictionary

from ..config import Config, ConfigError
from ..errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)
from ..storage import factory
from ..store import Store
from . import tree
from .bulk import Bulk
from .progress import Progress


class Importer(Bulk):
    """Puts files into a store that is open, and counts what became of them."""

    def __init__(self, config: Config, store: Store, progress: Progress) -> None:
        super().__init__(config.threads, progress)
        self._limit = config.max_upload_size
        self._store = store
        # One file at a time of those with equal bytes.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.imported = 0
        self.present = 0

    async def run(self, paths: Iterator[str]) -> None:
        """Take in files, as many at a time as there are threads for pixels."""
        await self.each(paths, self._take)

    def refuse_folder(self, ex: OSError) -> None:
        """Count a folder that can't be listed."""
        self.refuse(ex.filename, ex.strerror or str(ex))

    async def _take(self, path: str) -> None:
        try:
            await self._store_once(*await asyncio.to_thread(self._read, path))
        except ImageExists as ex:
            self.refuse(path, f'{ex} A file that is not listed? See asgilook check.')
        except (StorageFull, StorageUnavailable):
            raise
        except AsgilookError as ex:
            self.refuse(path, str(ex))
        except OSError as ex:
            self.refuse(path, ex.strerror or str(ex))
        except MemoryError:
            self.refuse(path, 'Out of memory.')

    def _read(self, path: str) -> tuple[str, bytes]:
        data = tree.read(path, self._limit)
        return content_id(data), data

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
    """Return a UUID of version 8 (RFC 9562): of SHA-256, all bits that it has room for.

    Whoever has the same bytes gets the same id.
    """
    number = int.from_bytes(hashlib.sha256(data).digest()[:16])
    number = number & ~(0xF << 76) | 8 << 76
    return str(uuid.UUID(int=number & ~(3 << 62) | 2 << 62))


def import_folder(config: Config, folder: str) -> int:
    """Take in a folder, tell of it, and return the exit code; raises `ConfigError`."""
    _check(folder, factory.local_folder(config))
    total = sum(1 for _ in tree.walk(folder))
    with closing(Progress(total, sys.stderr)) as progress:
        importer = Importer(config, store := Store(config), progress)
        asyncio.run(_run(importer, store, folder))
    counts = f'imported {importer.imported}, already there {importer.present}'
    return importer.report(counts)


def _check(folder: str, storage: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as ex:
        raise ConfigError(f'{folder}: {ex.strerror}') from None
    folder, storage = os.path.realpath(folder), os.path.realpath(storage)
    if os.path.commonpath([folder, storage]) == folder:
        raise ConfigError(f'{folder}: it is the storage folder, or has it in it')


async def _run(importer: Importer, store: Store, folder: str) -> None:
    importer.obey()
    try:
        await store.start()
    except (OSError, StorageUnavailable) as ex:
        raise ConfigError(f'the storage folder: {ex}') from None
    try:
        await importer.run(tree.walk(folder, importer.refuse_folder))
    finally:
        await store.stop()
