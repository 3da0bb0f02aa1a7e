"""`asgilook import`: a folder of pictures goes the way of uploads, without HTTP.

The id of a picture is made from its bytes: so a second run, on any machine, finds what
an earlier one has stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from weakref import WeakValueDictionary

from . import backends, tree
from .config import Config, ConfigError
from .errors import AsgilookError, ImageNotFound, StorageFull, StorageUnavailable
from .progress import Progress
from .store import Store


class Importer:
    """Puts files into a store that is open, and counts what became of them.

    `failure` is what the storage failed with, and `signal` what it was stopped by.
    """

    def __init__(self, config: Config, store: Store, progress: Progress) -> None:
        self._jobs = config.threads
        self._limit = config.max_upload_size
        self._store = store
        self._progress = progress
        # One file at a time of those with equal bytes.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.imported = 0
        self.present = 0
        self.refused = 0
        self.failure: AsgilookError | None = None
        self.signal = 0

    async def run(self, paths: Iterator[str]) -> None:
        """Take in files, as many at a time as there are threads for pixels."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._jobs):
                group.create_task(self._work(paths))

    def stop(self, number: int) -> None:
        """Begin no more, because of a signal; what is under way goes on to its end."""
        if not self.signal:
            self._progress.say('stopping once the files under way are done')
        self.signal = self.signal or number

    def refuse(self, path: str, reason: str) -> None:
        """Count a file that can't be taken in, and say why."""
        self.refused += 1
        self._progress.say(f'{path if path.isprintable() else repr(path)}: {reason}')

    def refuse_folder(self, ex: OSError) -> None:
        """Count a folder that can't be listed."""
        self.refuse(ex.filename, ex.strerror or str(ex))

    async def _work(self, paths: Iterator[str]) -> None:
        while not (self.signal or self.failure):
            path = next(paths, None)
            if path is None:
                return
            await self._take(path)
            self._progress.advance()

    async def _take(self, path: str) -> None:
        try:
            await self._store_once(*await asyncio.to_thread(self._read, path))
        except (StorageFull, StorageUnavailable) as ex:
            self.failure = ex
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
    _check(folder, backends.local_folder(config))
    total = sum(1 for _ in tree.walk(folder))
    with closing(Progress(total, sys.stderr)) as progress:
        importer = Importer(config, store := Store(config), progress)
        asyncio.run(_run(importer, store, folder))
    return _report(importer)


def _check(folder: str, storage: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as ex:
        raise ConfigError(f'{folder}: {ex.strerror}') from None
    folder, storage = os.path.realpath(folder), os.path.realpath(storage)
    if os.path.commonpath([folder, storage]) == folder:
        raise ConfigError(f'{folder}: it is the storage folder, or has it in it')


async def _run(importer: Importer, store: Store, folder: str) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, partial(importer.stop, number))
    try:
        await store.start()
    except (OSError, StorageUnavailable) as ex:
        raise ConfigError(f'the storage folder: {ex}') from None
    try:
        await importer.run(tree.walk(folder, importer.refuse_folder))
    finally:
        await store.stop()


def _report(importer: Importer) -> int:
    """Print the summary, and return the exit code."""
    print(
        f'imported {importer.imported}, already there {importer.present}, '
        f'refused {importer.refused}'
    )
    if importer.failure:
        cause = importer.failure.__cause__
        print(f'asgilook: {importer.failure} ({cause})', file=sys.stderr)
    elif importer.signal:
        print('asgilook: stopped; run it again to go on', file=sys.stderr)
        return 128 + importer.signal
    return 1 if importer.refused or importer.failure else 0
