"""Frozen values that every layer may use, and the names of common types."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import uuid
from collections.abc import Callable
from typing import NamedTuple

UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')

# Width and height in pixels.
Size = tuple[int, int]

# Called often by long jobs in a thread; raises when the job has to end.
CheckDeadline = Callable[[], None]


# The beginning of the year 1000 and the end of 9999, in seconds since 1970.
MIN_TIME, MAX_TIME = -30610224000, 253402300799


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A stored image: `size` in pixels, `length` in bytes, `modified_ns` since 1970."""

    image_id: str
    size: Size
    length: int
    modified_ns: int

    @property
    def modified(self) -> datetime.datetime:
        """Time of the upload, in UTC, between the years 1000 and 9999.

        HTTP dates have four digits for the year (RFC 9110, section 5.6.7), but file
        systems allow other years.
        """
        seconds = min(max(self.modified_ns / 1e9, MIN_TIME), MAX_TIME)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)

    @property
    def order(self) -> tuple[int, str]:
        """Sort key of the list: oldest first."""
        return self.modified_ns, self.image_id

    def matches(self, status: os.stat_result) -> bool:
        """Return whether a file with this status is the one of the image."""
        return (self.modified_ns, self.length) == (status.st_mtime_ns, status.st_size)

    def reductions(self, minimum: int) -> list[Size]:
        """Return thumbnail sizes: halved while both sides are at least `minimum`."""
        return halved(self.size, minimum)


def halved(size: Size, minimum: int) -> list[Size]:
    """Return a size halved once, twice ..., while both sides are at least `minimum`."""
    sizes = []
    width, height = size[0] // 2, size[1] // 2
    while min(width, height) >= minimum:
        sizes.append((width, height))
        width, height = width // 2, height // 2
    return sizes


class Page(NamedTuple):
    """A page of the list of images, and whether more follow.

    `state` is the same for equal pages, from any process, and differs after every
    change that this page could show.
    """

    images: list[Image]
    more: bool
    state: str


class Entry(NamedTuple):
    """A file as a storage lists it.

    `length` is in bytes; `stored_ns`, since 1970, may be later than the image's own
    time; `error` is the reason why the file can't be read.
    """

    image_id: str
    length: int
    stored_ns: int
    error: str = ''


def uuid_from_digest(digest: bytes) -> str:
    """Return a UUID of version 8 (RFC 9562) with the first bits of a digest."""
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 8 << 76
    return str(uuid.UUID(int=number & ~(3 << 62) | 2 << 62))
