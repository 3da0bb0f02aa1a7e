"""In-memory index of the storage folder, whose files are the source of truth.

Other processes may add and remove files at any time. So a look-up by id checks the file
itself, and a list first applies the changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection

from ..errors import ImageNotFound, ImageUnreadable, StorageUnavailable
from ..models import UUID, Image, Page
from ..storage.atomic import TEMPORARY
from ..storage.local import LocalFolder
from .listing import Listing
from .reader import Found, Reader, is_unchanged
from .watcher import Version, Watcher

log = logging.getLogger(__name__)

# Seconds after which unreadable files are tried again, if no change of theirs is seen.
RETRY_INTERVAL = 5.0


class FolderIndex:
    """An `Index` of the images of one folder.

    Args:
        folder: path of the folder.
        local: the folder as the storage uses it, so that failures are logged once.
    """

    def __init__(self, folder: str, local: LocalFolder | None = None) -> None:
        self._folder = folder
        self._local = local or LocalFolder(folder)
        self._watcher = Watcher(folder)
        self._reader = Reader(folder)
        self._listing = Listing()
        self._seen: Version | None = None  # up to which all changes are known
        self._lock = asyncio.Lock()
        self._unreadable: dict[str, str] = {}
        self._retry_at = 0.0
        self._others: set[str] = set()

    async def start(self) -> None:
        """Watch the folder and read it, if possible now."""
        self._lock = asyncio.Lock()
        self._watcher.start()
        with contextlib.suppress(StorageUnavailable):
            await self._refresh()

    async def stop(self) -> None:
        """Stop watching: from now on, changes are detected by the folder's time."""
        self._watcher.stop()
        if self._seen is not None and not self._watcher.is_settled(self._seen):
            self._seen = None

    async def get(self, image_id: str) -> Image | None:
        """Return the image as its file is at this moment, or None.

        Raises `ImageUnreadable`, or `StorageUnavailable`.
        """
        # PERF: one `stat` on the event loop takes a microsecond or two, a thread fifty.
        try:
            status = self._reader.status(image_id)
            known = self._listing.images.get(image_id)
            if status is not None and known is not None and known.matches(status):
                return known
            if status is not None:
                await self._read({image_id})
                status = self._reader.status(image_id)
        except OSError as ex:
            raise self._local.listing_failed(ex) from ex
        if status is None:
            self._listing.discard(image_id)
        elif image_id in self._unreadable:
            reason = OSError(self._unreadable[image_id])
            raise ImageUnreadable('The stored image cannot be read.', 5) from reason
        return self._listing.images.get(image_id)

    async def is_current(self, image: Image) -> bool:
        """Return whether the file is still the one that `image` was read from."""
        try:
            # PERF: called for each cache hit.
            return image.matches(os.stat(f'{self._folder}/{image.image_id}'))
        except OSError:
            return False

    async def page(
        self, limit: int, after: str | None = None, *, newest: bool = False
    ) -> Page:
        """Return up to `limit` images, oldest or newest first, with all changes.

        Raises `InvalidRequest` if `after` is not the id of an image.
        """
        await self._refresh()
        return self._listing.page(limit, after, newest=newest)

    async def version(self) -> str | None:
        """Return the state of the whole list, with all changes."""
        await self._refresh()
        return self._listing.state

    async def count(self) -> int:
        """Return the number of images, with all changes."""
        await self._refresh()
        return len(self._listing.images)

    async def add(self, image: Image) -> None:
        """Add an image whose file is complete, unless it is already removed again."""
        self._listing.insert(image)
        self._local.unreadable = None
        await self.get(image.image_id)

    async def remove(self, image_id: str) -> None:
        """Check that the image exists, or raise `ImageNotFound`.

        It disappears with its file: if it were removed from the index first, and
        removing the file failed, the file would stay unlisted.
        """
        if await self.get(image_id) is None:
            raise ImageNotFound('Image not found.')

    async def is_usable(self) -> bool:
        """Return True: only the folder can fail, which the storage reports."""
        return True

    async def _refresh(self) -> None:
        """Apply all changes until now; one request at a time."""
        async with self._lock:
            with self._local.listing():
                await self._take_in_changes()

    async def _take_in_changes(self) -> None:
        version, names, lost = self._watcher.changes()
        seen = None if lost else self._seen
        self._seen = None  # so that a failure results in a scan
        if seen == version or (seen is not None and names):
            await self._follow(names | self._to_retry())
            self._seen = version
        else:
            await self._scan(version)

    def _to_retry(self) -> set[str]:
        if not self._unreadable or time.monotonic() < self._retry_at:
            return set()
        self._retry_at = time.monotonic() + RETRY_INTERVAL
        return set(self._unreadable)

    async def _follow(self, names: Collection[str]) -> None:
        """Read the files that have changed."""
        images = filter(UUID.fullmatch, names)
        changed = {name for name in images if not self._is_unchanged(name)}
        if changed:
            await self._read(changed)

    def _is_unchanged(self, image_id: str) -> bool:
        image = self._listing.images.get(image_id)
        try:
            path = self._reader.path(image_id)
            return image is not None and is_unchanged(image, path)
        except OSError:
            return False

    async def _read(self, names: Collection[str]) -> None:
        known = self._listing.images
        self._apply(await asyncio.to_thread(self._reader.read, names, known))

    async def _scan(self, version: Version) -> None:
        """Compare with the whole folder, as it has been since `version` at least."""
        settled = self._watcher.is_settled(version)
        known = self._listing.images
        names = known.keys() | self._unreadable.keys()
        found = await asyncio.to_thread(self._reader.scan, known, names)
        self._others &= found.others
        self._apply(found)
        self._seen = version if settled else None

    def _apply(self, found: Found) -> None:
        """Update the list with what was found, and log files that are not listed."""
        removed = found.absent | found.others | found.unreadable.keys()
        self._listing.update(removed, found.images)
        readable = {image.image_id for image in found.images}
        self._update_others(found, readable)
        self._update_unreadable(found, readable)

    def _update_others(self, found: Found, readable: set[str]) -> None:
        others = {name for name in found.others if not name.startswith(TEMPORARY)}
        new = others - self._others
        self._others = (self._others | others) - found.absent - readable
        if new:
            log.warning(
                'ignoring %d files in the storage folder that are damaged or were not '
                'stored by this service, such as %s',
                len(self._others),
                min(new),
            )

    def _update_unreadable(self, found: Found, readable: set[str]) -> None:
        new = found.unreadable.keys() - self._unreadable.keys()
        had_unreadable = bool(self._unreadable)
        for name in found.absent | found.others | readable:
            self._unreadable.pop(name, None)
        self._unreadable.update(found.unreadable)
        if new:
            log.warning(
                '%d of %d image files in the storage folder cannot be read, such as '
                '%s: %s; they are not listed: check their owner and permissions',
                len(self._unreadable),
                len(self._unreadable) + len(self._listing.images),
                self._reader.path(min(new)),
                found.unreadable[min(new)],
            )
        elif had_unreadable and not self._unreadable:
            log.warning('all image files in the storage folder can be read again')
        sample = next(map(self._reader.path, self._unreadable), None)
        self._local.unreadable = None if self._listing.images else sample
