"""What exists: an in-memory index of the storage folder, whose files are the truth.

Other processes may add and remove files at any time. So a look-up by id asks the
file system for that one file, and a list first compares the folder's modification
time with the one that was read before the last scan.
"""

from __future__ import annotations

import asyncio
import bisect
import concurrent.futures
import dataclasses
import datetime
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable

from . import jpeg
from .errors import InvalidRequest, StorageUnavailable
from .files import TEMPORARY, storage_errors

log = logging.getLogger(__name__)

UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')

# File systems stamp changes with a clock that ticks every 1 to 10 ms: a change in
# the tick of a scan leaves the time as it was, so such a scan must be repeated.
TICK_NS = 20_000_000

_CHUNK = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A stored image: `size` in pixels, `length` in bytes."""

    image_id: str
    size: tuple[int, int]
    length: int
    modified_ns: int

    @property
    def modified(self) -> datetime.datetime:
        """The time of its upload, in UTC."""
        return datetime.datetime.fromtimestamp(self.modified_ns / 1e9, datetime.UTC)

    @property
    def order(self) -> tuple[int, str]:
        """Its place in the list: oldest first."""
        return self.modified_ns, self.image_id

    def reductions(self, minimum: int) -> list[tuple[int, int]]:
        """Sizes of its thumbnails: halved while both sides are at least `minimum`."""
        sizes = []
        width, height = self.size[0] // 2, self.size[1] // 2
        while min(width, height) >= minimum:
            sizes.append((width, height))
            width, height = width // 2, height // 2
        return sizes


class Index:
    """The images of one folder.

    `state` is a number that is the same for equal sets of images, on any worker, and
    differs for different ones: the XOR of a 128-bit hash of each.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._images: dict[str, Image] = {}
        self._order: list[tuple[int, str]] = []
        self._scanned: int | None = None
        self._scan_lock: asyncio.Lock | None = None
        self._foreign: set[str] = set()
        self.state = 0

    def path(self, image_id: str) -> str:
        """Where the file of an image lies."""
        return f'{self._folder}/{image_id}'

    async def get(self, image_id: str) -> Image | None:
        """Return the image as its file is at this moment, or None.

        This costs one `stat`, on the event loop: it is what every hit and every 304
        stands on, and it takes a microsecond or two where a thread would take fifty.
        """
        status = self._stat(image_id)
        if status is None:
            return None
        image = self._images.get(image_id)
        if image is not None and _matches(image, status):
            return image
        image = await asyncio.to_thread(_probe, self.path(image_id), image_id)
        if image is None or self._stat(image_id) is None:
            self.discard(image_id)
            return None
        self.add(image)
        return image

    def is_current(self, image: Image) -> bool:
        """Tell whether the file is still the one that `image` was read from."""
        try:
            status = os.stat(self.path(image.image_id))
        except OSError:
            return False
        return _matches(image, status)

    async def page(
        self, limit: int, after: str | None = None
    ) -> tuple[list[Image], bool]:
        """Return up to `limit` images, oldest first, and whether more follow.

        Raises `InvalidRequest` where `after` names no image.
        """
        await self._refresh()
        start = 0
        if after is not None:
            if after not in self._images:
                raise InvalidRequest('The parameter after names no image.')
            start = bisect.bisect_right(self._order, self._images[after].order)
        found = self._order[start : start + limit]
        more = start + limit < len(self._order)
        return [self._images[image_id] for _, image_id in found], more

    def add(self, image: Image) -> None:
        """Take in an image whose file is complete."""
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

    def _stat(self, image_id: str) -> os.stat_result | None:
        try:
            return os.stat(self.path(image_id))
        except FileNotFoundError:
            self.discard(image_id)
            self._folder_modified()  # or is it the folder that is gone?
            return None
        except OSError as ex:
            raise StorageUnavailable("The storage can't be used now.", 5) from ex

    def _folder_modified(self) -> int:
        with storage_errors():
            return os.stat(self._folder).st_mtime_ns

    async def _refresh(self) -> None:
        """Scan the folder if anything has changed there since the last scan began."""
        if self._folder_modified() == self._scanned:
            return
        if self._scan_lock is None:
            self._scan_lock = asyncio.Lock()
        async with self._scan_lock:
            modified = self._folder_modified()
            if modified == self._scanned:
                return  # another request's scan began after this request did
            settled = time.time_ns() - modified > TICK_NS
            await self._scan()
            self._scanned = modified if settled else None

    async def _scan(self) -> None:
        known = set(self._images)
        gone, images, foreign = await asyncio.to_thread(self._compare, known)
        for image_id in gone:
            self.discard(image_id)
        self._add_all(images)
        if foreign - self._foreign:
            log.warning(
                'ignoring %d files in the storage folder that are no images of this '
                'service, such as %s',
                len(foreign),
                min(foreign - self._foreign),
            )
        self._foreign = foreign

    def _compare(self, known: set[str]) -> tuple[set[str], list[Image], set[str]]:
        with storage_errors():
            names = set(os.listdir(self._folder))
        new = {name for name in names - known if UUID.fullmatch(name)}
        images = self._probe_all(sorted(new))
        foreign = {
            name
            for name in names - known - {image.image_id for image in images}
            if not name.startswith(TEMPORARY)
        }
        return known - names, images, foreign

    def _probe_all(self, names: list[str]) -> list[Image]:
        """Read many headers, in parallel, as a large folder on a cold disk needs."""
        images: list[Image] = []
        chunks = [names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)]
        with concurrent.futures.ThreadPoolExecutor(8, 'asgilook-index') as executor:
            for chunk in executor.map(self._probe_chunk, chunks):
                images += chunk
                if len(chunks) > 1:
                    log.info('read %d of %d images', len(images), len(names))
        return images

    def _probe_chunk(self, names: list[str]) -> list[Image]:
        probed = (_probe(self.path(name), name) for name in names)
        return [image for image in probed if image is not None]

    def _add_all(self, images: Iterable[Image]) -> None:
        fresh = [image for image in images if image.image_id not in self._images]
        self._images.update((image.image_id, image) for image in fresh)
        self._order = sorted(self._order + [image.order for image in fresh])
        for image in fresh:
            self.state ^= _fingerprint(image)


def _matches(image: Image, status: os.stat_result) -> bool:
    return image.modified_ns == status.st_mtime_ns and image.length == status.st_size


def _probe(path: str, image_id: str) -> Image | None:
    """Read an image's size from its JPEG header; None where there is no such image."""
    try:
        with open(path, 'rb', buffering=0) as file:
            status = os.fstat(file.fileno())
            size = jpeg.read_size(file)
    except (OSError, ValueError):
        return None
    return Image(image_id, size, status.st_size, status.st_mtime_ns)


def _fingerprint(image: Image) -> int:
    digest = hashlib.blake2b(repr(image).encode(), digest_size=16).digest()
    return int.from_bytes(digest)
