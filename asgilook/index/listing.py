"""Images in order of age, with a number for the state of the whole list."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Collection, Mapping

from ..errors import InvalidRequest
from ..models import Image, Page

# Number of changes from which the list is sorted again instead of updated one by one.
_MIN_SORTED_CHANGES = 100


class Listing:
    """Images by id, and in order.

    The state is equal for equal sets of images, in any process, and differs for
    different ones: it is the XOR of a 128-bit hash of each.
    """

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._order: list[tuple[int, str]] = []
        self._state = 0

    @property
    def images(self) -> Mapping[str, Image]:
        """Images by id."""
        return self._images

    @property
    def state(self) -> str:
        """State of the list."""
        return f'{self._state:x}'

    def page(self, limit: int, after: str | None, *, newest: bool) -> Page:
        """Return up to `limit` images, oldest or newest first.

        Raises `InvalidRequest` if `after` is not the id of an image.
        """
        # PERF: slices of the sorted list, so that a page of any list costs the same.
        start, stop = 0, len(self._order)
        if after is not None:
            if after not in self._images:
                raise InvalidRequest('The parameter after is not the id of an image.')
            position = bisect.bisect_left(self._order, self._images[after].order)
            start, stop = (0, position) if newest else (position + 1, stop)
        more = stop - start > limit
        if newest:
            found = self._order[max(start, stop - limit) : stop][::-1]
        else:
            found = self._order[start : min(stop, start + limit)]
        images = [self._images[image_id] for _, image_id in found]
        return Page(images, more, self.state)

    def insert(self, image: Image) -> None:
        """Add or replace an image."""
        self.discard(image.image_id)
        self._put(image)
        bisect.insort(self._order, image.order)

    def discard(self, image_id: str) -> None:
        """Remove an image, if it is listed."""
        if image_id in self._images:
            order = self._images[image_id].order
            del self._order[bisect.bisect_left(self._order, order)]
            self._pop(image_id)

    def update(self, removed: Collection[str], images: Collection[Image]) -> None:
        """Remove ids, if they are listed, and add or replace images."""
        if len(removed) + len(images) < _MIN_SORTED_CHANGES:
            for image_id in removed:
                self.discard(image_id)
            for image in images:
                self.insert(image)
            return
        for image_id in removed:
            self._pop(image_id)
        for image in images:
            self._put(image)
        self._order = sorted(image.order for image in self._images.values())

    def _put(self, image: Image) -> None:
        self._pop(image.image_id)
        self._images[image.image_id] = image
        self._state ^= _fingerprint(image)

    def _pop(self, image_id: str) -> None:
        image = self._images.pop(image_id, None)
        if image is not None:
            self._state ^= _fingerprint(image)


def _fingerprint(image: Image) -> int:
    digest = hashlib.blake2b(repr(image).encode(), digest_size=16).digest()
    return int.from_bytes(digest)
