"""An index in memory, of the storage folder, whose files are the truth.

Other processes may add and remove files at any time. So a look-up by id asks the file
system for that one file, and a list first takes in what has changed.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import logging
import os

from ..errors import ImageNotFound, InvalidRequest
from ..models import UUID, Image, Page
from ..storage.atomic import TEMPORARY
from .watcher import Folder

log = logging.getLogger(__name__)


class FolderIndex:
    """An `Index` of the images of one folder.

    `state` is a number that is the same for equal sets of images, on any worker, and
    differs for different ones: the XOR of a 128-bit hash of each.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Folder(folder)
        self._images: dict[str, Image] = {}
        self._order: list[tuple[int, str]] = []
        self._seen: int | None = None  # the folder's time, up to which all is known
        self._lock = asyncio.Lock()
        self._foreign: set[str] = set()
        self.state = 0

    async def start(self) -> None:
        """Watch the folder, and read what is there."""
        self._lock = asyncio.Lock()
        await asyncio.to_thread(self._folder.watch)
        await self._refresh()

    async def stop(self) -> None:
        """Watch no more: from here on, only the folder's time can tell of changes."""
        self._folder.unwatch()
        if self._seen is not None and not self._folder.settled(self._seen):
            self._seen = None

    async def get(self, image_id: str) -> Image | None:
        """Return the image as its file is at this moment, or None.

        This costs one `stat`, on the event loop: it takes a microsecond or two where a
        thread would take fifty.
        """
        status = self._folder.status(image_id)
        if status is None:
            self.discard(image_id)
            return None
        known = self._images.get(image_id)
        if known is not None and _matches(known, status):
            return known
        image = await asyncio.to_thread(self._folder.read, image_id)
        if image is None or self._folder.status(image_id) is None:
            self.discard(image_id)
            return None
        self.insert(image)
        return image

    async def is_current(self, image: Image) -> bool:
        """Tell whether the file is still the one that `image` was read from."""
        try:
            return _matches(image, os.stat(self._folder.path(image.image_id)))
        except OSError:
            return False

    async def version(self) -> str | None:
        """Return the state of the list, after taking in what has changed."""
        await self._refresh()
        return f'{self.state:x}'

    async def page(self, limit: int, after: str | None = None) -> Page:
        """Return up to `limit` images, oldest first; this first takes in what changed.

        Raises `InvalidRequest` where `after` names no image.
        """
        await self._refresh()
        start = 0
        if after is not None:
            if after not in self._images:
                raise InvalidRequest('The parameter after names no image.')
            start = bisect.bisect_right(self._order, self._images[after].order)
        found = self._order[start : start + limit]
        images = [self._images[image_id] for _, image_id in found]
        return Page(images, start + limit < len(self._order), f'{self.state:x}')

    async def count(self) -> int:
        """Return the number of images; this first takes in what changed."""
        await self._refresh()
        return len(self._images)

    async def add(self, image: Image) -> None:
        """Take in an image whose file is complete, unless it is gone already."""
        self.insert(image)
        await self.get(image.image_id)

    async def remove(self, image_id: str) -> None:
        """See that the image exists, or raise `ImageNotFound`.

        It goes with its file: were it forgotten before, a file that then can't be
        removed would stay unlisted.
        """
        if await self.get(image_id) is None:
            raise ImageNotFound('There is no such image.')

    async def is_usable(self) -> bool:
        """Tell that there is nothing but the folder to fail, which is the storage's."""
        return True

    def insert(self, image: Image) -> None:
        """Know an image."""
        self.discard(image.image_id)
        self._images[image.image_id] = image
        bisect.insort(self._order, image.order)
        self.state ^= _fingerprint(image)

    def discard(self, image_id: str) -> None:
        """Forget an image whose file is gone."""
        image = self._images.pop(image_id, None)
        if image is not None:
            del self._order[bisect.bisect_left(self._order, image.order)]
            self.state ^= _fingerprint(image)

    async def _refresh(self) -> None:
        """Take in what has changed until now; one request at a time."""
        async with self._lock:
            changes = self._folder.changes()
            if changes is None and self._folder.watched:
                self._seen = None  # some were lost
            modified = self._folder.modified()
            if modified == self._seen and not changes:
                return
            if changes and self._seen is not None:
                self._seen = None  # so that a failure ends in a scan
                await self._follow(changes)
                self._seen = modified
            else:
                await self._scan(modified)

    async def _follow(self, names: set[str]) -> None:
        """Look at the files that have changed."""
        for image_id in names & self._images.keys():
            await self.get(image_id)
        fresh = {name for name in names - self._images.keys() if UUID.fullmatch(name)}
        if fresh:
            self._add_all(await asyncio.to_thread(self._folder.read_all, fresh))

    async def _scan(self, modified: int) -> None:
        """Compare with the whole folder, as it has been since `modified` at least."""
        settled = self._folder.watched or self._folder.settled(modified)
        known = set(self._images)
        names = await asyncio.to_thread(self._folder.names)
        images = await asyncio.to_thread(self._folder.read_all, names - known)
        for image_id in known - names:
            self.discard(image_id)
        self._add_all(images)
        self._seen = modified if settled else None
        self._tell_foreign(names - known - {image.image_id for image in images})

    def _tell_foreign(self, names: set[str]) -> None:
        foreign = {name for name in names if not name.startswith(TEMPORARY)}
        if foreign - self._foreign:
            log.warning(
                'ignoring %d files in the storage folder that are no images of this '
                'service, such as %s',
                len(foreign),
                min(foreign - self._foreign),
            )
        self._foreign = foreign

    def _add_all(self, images: list[Image]) -> None:
        fresh = [image for image in images if image.image_id not in self._images]
        if len(fresh) < 100:
            for image in fresh:
                self.insert(image)
            return
        self._images.update((image.image_id, image) for image in fresh)
        self._order = sorted(self._order + [image.order for image in fresh])
        for image in fresh:
            self.state ^= _fingerprint(image)


def _matches(image: Image, status: os.stat_result) -> bool:
    return image.modified_ns == status.st_mtime_ns and image.length == status.st_size


def _fingerprint(image: Image) -> int:
    digest = hashlib.blake2b(repr(image).encode(), digest_size=16).digest()
    return int.from_bytes(digest)
