"""Interface of a storage of image files: a folder or an object store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from ..models import Entry
from .local import LocalFolder
from .previews import PreviewFiles


class NewObject(Protocol):
    """A file that is being written: `publish` it, or `close` it to discard it.

    Both may block.
    """

    @property
    def file(self) -> BinaryIO:
        """File to write to: seekable, with a real file descriptor."""
        ...

    def publish(
        self, image_id: str, modified_ns: int | None = None, *, exclusive: bool = False
    ) -> tuple[int, int]:
        """Name the file; return its length and `modified_ns`, by default now.

        If it is `exclusive`, an existing file is kept; raises `ImageExists` then.
        When this returns, the file survives a power failure.
        """
        ...

    def close(self) -> None:
        """Discard the file unless it was published; has to be called in any case."""
        ...


class Storage(Protocol):
    """Image files, by id; every method may block, so it has to run in a thread.

    Raises `StorageFull` or `StorageUnavailable`.
    """

    @property
    def local(self) -> LocalFolder:
        """Folder of the images, or of uploads in progress if images are remote."""
        ...

    @property
    def previews(self) -> PreviewFiles:
        """The files of previews, apart from those of images."""
        ...

    def start(self) -> None:
        """Prepare the storage, if possible now, and remove leftovers of processes."""
        ...

    def stop(self) -> None:
        """Release resources; the storage may be started again."""
        ...

    def create(self) -> NewObject:
        """Return a new file."""
        ...

    def open(self, image_id: str) -> BinaryIO:
        """Open a seekable file that transfers no more than is read.

        Raises `ImageNotFound`.
        """
        ...

    def remove(self, image_id: str) -> None:
        """Remove a file durably; raises `ImageNotFound`."""
        ...

    def is_usable(self) -> bool:
        """Return whether files can be read and written now."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for each file whose name is that of an image, in any order."""
        ...
