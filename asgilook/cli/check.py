"""`asgilook check`: compares the stored files with the list of images.

A process that is killed between storing a file and listing it leaves an unlisted file,
which is harmless but takes up space. The names of all files are kept in a temporary
SQLite database on disk, so memory does not grow with their number.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing, suppress

from ..config import Config
from ..errors import (
    AsgilookError,
    ImageNotFound,
    ImageUnreadable,
    StorageUnavailable,
)
from ..models import Entry, Image
from .check_previews import PreviewCheck
from .places import Place, open_place

_TABLE = (
    'CREATE TABLE files (id TEXT PRIMARY KEY, length, stored_ns, error) WITHOUT ROWID'
)


class Comparison:
    """Compares a storage with its index, and prints each difference.

    Args:
        place: storage and index.
        min_age: age in seconds below which an unlisted file may be an upload.
        remove: whether to remove unlisted files.

    Attributes:
        images: number of listed images.
        wrong: number of listed images with a missing or wrong file.
        unreadable: number of files that can't be read, listed or not.
        orphans: number of files that are not listed.
        removed: number of orphans that were removed.
        failure: exception that ended the comparison.
    """

    def __init__(self, place: Place, min_age: float, *, remove: bool) -> None:
        self._place = place
        self._min_age_ns = int(min_age * 1e9)
        self._remove = remove
        self.images = 0
        self.wrong = 0
        self.unreadable = 0
        self.orphans = 0
        self.removed = 0
        self.failure: AsgilookError | None = None

    async def run(self) -> None:
        """Compare all files and images."""
        try:
            await self._compare_all()
        except StorageUnavailable as ex:
            self.failure = ex
        except sqlite3.Error as ex:
            self.failure = StorageUnavailable(
                f'The temporary list of files cannot be written ({ex}): '
                'set TMPDIR to a writable folder with free space.'
            )

    async def _compare_all(self) -> None:
        with closing(sqlite3.connect('', check_same_thread=False)) as files:
            files.execute(_TABLE)
            await asyncio.to_thread(self._collect, files)
            async for page in self._place.pages():
                for image in page:
                    await self._compare(image, files)
            # With an empty list, a new or wrong database is more likely than orphans.
            self._remove = self._remove and self.images > 0
            for row in files.execute('SELECT * FROM files ORDER BY id'):
                await self._examine_unlisted(Entry(*row))

    def _collect(self, files: sqlite3.Connection) -> None:
        entries = self._place.storage.entries()
        files.executemany('INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)', entries)

    async def _compare(self, image: Image, files: sqlite3.Connection) -> None:
        self.images += 1
        query = 'DELETE FROM files WHERE id = ? RETURNING *'
        row = files.execute(query, (image.image_id,)).fetchone()
        file = Entry(*row) if row else None
        if file is None:
            if await self._is_missing(image):
                self._report_wrong(image.image_id, 'is listed, but its file is missing')
        elif file.error:
            self._report_unreadable(file)
        elif file.length != image.length:
            self._report_wrong(
                image.image_id,
                f'has {file.length} bytes, but is listed with {image.length}',
            )

    async def _is_missing(self, image: Image) -> bool:
        """Check again: the image may have changed since the files were listed."""
        if await asyncio.to_thread(self._has_file, image.image_id):
            return False
        return await self._place.index.get(image.image_id) is not None

    async def _examine_unlisted(self, file: Entry) -> None:
        """Report a file that is still not listed, and not an upload in progress."""
        if file.error:
            self._report_unreadable(file)
            return
        try:
            is_listed = await self._place.index.get(file.image_id) is not None
        except ImageUnreadable as ex:
            self._report_unreadable(file._replace(error=str(ex.__cause__)))
            return
        if is_listed or time.time_ns() - file.stored_ns < self._min_age_ns:
            return
        if await asyncio.to_thread(self._has_file, file.image_id):
            self.orphans += 1
            print(f'{file.image_id} is not listed, {file.length} bytes')
            if self._remove:
                await asyncio.to_thread(self._remove_orphan, file.image_id)

    def _has_file(self, image_id: str) -> bool:
        try:
            self._place.storage.open(image_id).close()
        except ImageNotFound:
            return False
        return True

    def _remove_orphan(self, image_id: str) -> None:
        with suppress(ImageNotFound):
            self._place.storage.remove(image_id)
        self.removed += 1

    def _report_unreadable(self, file: Entry) -> None:
        self.unreadable += 1
        print(f'{file.image_id} cannot be read: {file.error}')

    def _report_wrong(self, image_id: str, problem: str) -> None:
        self.wrong += 1
        print(f'{image_id} {problem}')


def check(config: Config, min_age: float, *, remove: bool) -> int:
    """Compare storage and index, print the differences, and return the exit code.

    Without a database the files themselves are the list: one that is not listed is an
    image that can't be read, and is never removed.
    """
    return asyncio.run(_run(config, min_age, remove=remove))


async def _run(config: Config, min_age: float, *, remove: bool) -> int:
    async with open_place(config) as place:
        has_database = config.database_url is not None
        comparison = Comparison(place, min_age, remove=remove and has_database)
        await comparison.run()
        # With an empty database, the same holds for previews as for orphans.
        remove_previews = remove and not (has_database and comparison.images == 0)
        previews = PreviewCheck(place, remove=remove_previews)
        await previews.run()
    return max(_report(comparison), _report_previews(previews))


def _report(result: Comparison) -> int:
    """Print the summary, and return the exit code."""
    print(
        f'{result.images} images, {result.wrong} with a missing or wrong file, '
        f'{result.unreadable} unreadable files, '
        f'{result.orphans} files not listed, {result.removed} of them removed'
    )
    if result.failure:
        print(f'asgilook: {result.failure} Comparison incomplete.', file=sys.stderr)
        return 1
    is_wrong = result.wrong or result.unreadable or result.orphans > result.removed
    return 1 if is_wrong else 0


def _report_previews(result: PreviewCheck) -> int:
    if result.orphans:
        print(f'{result.orphans} previews without an image, {result.removed} removed')
    if result.failure:
        print(f'asgilook: previews: {result.failure}', file=sys.stderr)
        return 1
    return 1 if result.orphans > result.removed else 0
