"""An image, as a value."""

from __future__ import annotations

import dataclasses
import datetime
import re

UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A stored image: `size` in pixels, `length` in bytes, `modified_ns` since 1970."""

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
