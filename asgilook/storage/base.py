"""Where the files of images are: what any storage does, a folder or an object store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from ..models import Entry
from .previews import PreviewFiles


class NewObject(Protocol):
    """A file in the making: `publish` it, or `close` it and nothing is left.

    Both may block.
    """

    @property
    def file(self) -> BinaryIO:
        """What to write to: it can seek, and has a real file descriptor."""
        ...

    def publish(self, image_id: str, modified_ns: int | None = None) -> tuple[int, int]:
        """Give it its name, for good; return its length and `modified_ns`.

        Without one that is the time of now.

        When this returns, it is there also after a power cut.
        """
        ...

    def close(self) -> None:
        """Remove it unless it was published; to be called in any case."""
        ...


class Storage(Protocol):
    """The files of images, by id; every method may block: call it in a thread.

    Raises `StorageFull` or `StorageUnavailable`.
    """

    @property
    def previews(self) -> PreviewFiles:
        """The files of previews, apart from those of images."""
        ...

    def start(self) -> None:
        """Make it usable, and sweep what dead processes left; raises OSError too."""
        ...

    def stop(self) -> None:
        """Give back what it holds; it may be started again."""
        ...

    def create(self) -> NewObject:
        """Begin a new file."""
        ...

    def open(self, image_id: str) -> BinaryIO:
        """Open a file to seek and read in, no more than asked; or `ImageNotFound`."""
        ...

    def remove(self, image_id: str) -> None:
        """Remove a file for good, or raise `ImageNotFound`."""
        ...

    def is_usable(self) -> bool:
        """Tell whether files can be read and written now."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Yield every file that has the name of an image, in any order."""
        ...
