"""Storage of image files in a folder, shared by any number of processes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import ImageNotFound
from ..models import UUID, Entry
from . import atomic
from .local import LocalFolder, describe
from .previews import FolderPreviews


class FolderStorage:
    """A `Storage` in which the name of an image file is the image's id.

    With `replaces`, a new file replaces an older one with the same id.
    """

    def __init__(self, path: str, *, replaces: bool = True) -> None:
        self.local = LocalFolder(path)
        self._replaces = replaces
        self.previews = FolderPreviews(path)

    def start(self) -> None:
        """Create the folder and remove leftovers of dead processes, if possible now."""
        self.local.prepare()
        self.previews.sweep()

    def stop(self) -> None:
        """Do nothing, as there are no resources to release."""

    def create(self) -> NewImage:
        """Return a new file under a temporary name."""
        with self.local.writing():
            return NewImage(self.local, replaces=self._replaces)

    def open(self, image_id: str) -> BinaryIO:
        """Open a file; raises `ImageNotFound` or `StorageUnavailable`."""
        with self.local.reading(image_id):
            try:
                return open(self._file(image_id), 'rb')
            except FileNotFoundError:
                raise ImageNotFound('Image not found.') from None

    def remove(self, image_id: str) -> None:
        """Remove a file durably; raises `ImageNotFound` or `StorageUnavailable`."""
        with self.local.writing():
            atomic.remove(self._file(image_id))
        self.local.forget(image_id)

    def is_usable(self) -> bool:
        """Return whether images can be read from the folder and written to it.

        It must exist, be writable, as must its file system, and have free space; and if
        it has images, at least one must be readable.
        """
        return self.local.probe()

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for each file whose name is that of an image."""
        with self.local.listing(), os.scandir(self.local.path) as found:
            for file in found:
                if UUID.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        yield self._entry(file)

    def _entry(self, file: os.DirEntry[str]) -> Entry:
        status = file.stat()
        error = '' if os.access(file.path, os.R_OK) else describe(_NO_PERMISSION)
        return Entry(file.name, status.st_size, status.st_ctime_ns, error)

    def _file(self, image_id: str) -> str:
        return os.path.join(self.local.path, image_id)


_NO_PERMISSION = PermissionError(errno.EACCES, os.strerror(errno.EACCES))


class NewImage(atomic.NewFile):
    """A new file of a `LocalFolder`, which logs what fails."""

    def __init__(self, local: LocalFolder, *, replaces: bool) -> None:
        super().__init__(local.path, replaces=replaces)
        self._local = local

    def publish(
        self, image_id: str, modified_ns: int | None = None, *, exclusive: bool = False
    ) -> tuple[int, int]:
        """Rename the file, durably; return its length and `modified_ns`.

        Raises `ImageExists`, `StorageFull` or `StorageUnavailable`.
        """
        with self._local.writing():
            published = super().publish(image_id, modified_ns, exclusive=exclusive)
        self._local.written()
        self._local.forget(image_id)
        return published
