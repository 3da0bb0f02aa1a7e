"""`asgilook check`: files that are not listed, and listed images without their file.

The first are what is left where a process is killed between the two: harmless, but
they take up room. The names of all files are held in a temporary database on disk, so
that any number of them can be compared with the list.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing, suppress

from ..config import Config, ConfigError
from ..errors import AsgilookError, ImageNotFound, StorageUnavailable
from ..models import Entry, Image
from .places import Place, opened

_TABLE = 'CREATE TABLE files (id TEXT PRIMARY KEY, length, stored_ns) WITHOUT ROWID'


class Check:
    """Compares a storage with its index, and prints what doesn't fit.

    `failure` is what one of them failed with.

    Args:
        place: what to compare.
        younger: seconds; a file that is there for less may not be listed yet.
        remove: whether files that are not listed are to be removed.
    """

    def __init__(self, place: Place, younger: float, *, remove: bool) -> None:
        self._place = place
        self._younger_ns = int(younger * 1e9)
        self._remove = remove
        self.images = 0
        self.wrong = 0
        self.orphans = 0
        self.removed = 0
        self.failure: AsgilookError | None = None

    async def run(self) -> None:
        """Compare all."""
        try:
            await self._compare_all()
        except StorageUnavailable as ex:
            self.failure = ex

    async def _compare_all(self) -> None:
        with closing(sqlite3.connect('', check_same_thread=False)) as files:
            files.execute(_TABLE)
            await asyncio.to_thread(self._collect, files)
            async for page in self._place.pages():
                for image in page:
                    await self._compare(image, files)
            # An empty list is sooner a new database, or another one, than the remains.
            self._remove = self._remove and self.images > 0
            for row in files.execute('SELECT * FROM files ORDER BY id'):
                await self._judge(Entry(*row))

    def _collect(self, files: sqlite3.Connection) -> None:
        entries = self._place.storage.entries()
        files.executemany('INSERT OR REPLACE INTO files VALUES (?, ?, ?)', entries)

    async def _compare(self, image: Image, files: sqlite3.Connection) -> None:
        self.images += 1
        query = 'DELETE FROM files WHERE id = ? RETURNING length'
        found = files.execute(query, (image.image_id,)).fetchall()
        if not found and await self._is_missing(image):
            self._tell(image.image_id, 'is listed, but has no file')
        elif found and found[0][0] != image.length:
            self._tell(
                image.image_id, f'has {found[0][0]} bytes, not {image.length} as listed'
            )

    async def _is_missing(self, image: Image) -> bool:
        """Look again: it may have come or gone since the files were listed."""
        if await asyncio.to_thread(self._has_file, image.image_id):
            return False
        return await self._place.index.get(image.image_id) is not None

    async def _judge(self, file: Entry) -> None:
        """Tell of a file that is not listed, even now, and is not on its way."""
        young = time.time_ns() - file.stored_ns < self._younger_ns
        if young or await self._place.index.get(file.image_id) is not None:
            return
        if await asyncio.to_thread(self._has_file, file.image_id):
            self.orphans += 1
            print(f'{file.image_id} is not listed, {file.length} bytes')
            if self._remove:
                await asyncio.to_thread(self._drop, file.image_id)

    def _has_file(self, image_id: str) -> bool:
        try:
            self._place.storage.open(image_id).close()
        except ImageNotFound:
            return False
        return True

    def _drop(self, image_id: str) -> None:
        with suppress(ImageNotFound):
            self._place.storage.remove(image_id)
        self.removed += 1

    def _tell(self, image_id: str, what: str) -> None:
        self.wrong += 1
        print(f'{image_id} {what}')


def check(config: Config, younger: float, *, remove: bool) -> int:
    """Compare what the settings name, print it, and return the exit code.

    Raises `ConfigError`.
    """
    if remove and config.database_url is None:
        raise ConfigError(
            '--remove-orphans: without a database the files themselves are the list, '
            'and one that is not listed is an image that can not be read'
        )
    return _report(asyncio.run(_run(config, younger, remove=remove)))


async def _run(config: Config, younger: float, *, remove: bool) -> Check:
    async with opened(config) as place:
        comparison = Check(place, younger, remove=remove)
        await comparison.run()
        return comparison


def _report(result: Check) -> int:
    """Print the summary, and return the exit code."""
    print(
        f'{result.images} images, {result.wrong} without their file, {result.orphans} '
        f'files that are not listed, {result.removed} of them removed'
    )
    if result.failure:
        print(f'asgilook: {result.failure} Not all was compared.', file=sys.stderr)
        return 1
    return 1 if result.wrong or result.orphans > result.removed else 0
