"""Storage of image files in a folder, shared by any number of processes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import BinaryIO

from ..config import DEFAULT_STORAGE_PATH
from ..errors import ImageNotFound
from ..models import UUID, Entry
from . import atomic
from .previews import FolderPreviews

log = logging.getLogger(__name__)

# Free space, in bytes, below which the storage counts as full.
MIN_FREE = 1024 * 1024


class FolderStorage:
    """A `Storage` in which the name of an image file is the image's id.

    With `replaces`, a new file replaces an older one with the same id.
    """

    def __init__(self, path: str, *, replaces: bool = True) -> None:
        self._path = path
        self._replaces = replaces
        self.previews = FolderPreviews(path)

    def start(self) -> None:
        """Create the folder and remove leftovers of dead processes; raises OSError."""
        os.makedirs(self._path, exist_ok=True)
        if self._path == DEFAULT_STORAGE_PATH:
            log.warning(
                'images are stored in %s, which is lost at a reboot: '
                'set ASGI_LOOK_STORAGE_PATH',
                self._path,
            )
        swept = atomic.sweep(self._path)
        if swept:
            log.info('removed %d temporary files of interrupted uploads', swept)
        self.previews.sweep()

    def stop(self) -> None:
        """Release nothing, as nothing is held."""

    def create(self) -> atomic.NewFile:
        """Return a new file under a temporary name."""
        with atomic.storage_errors():
            return atomic.NewFile(self._path, replaces=self._replaces)

    def open(self, image_id: str) -> BinaryIO:
        """Open a file; raises `ImageNotFound` or `StorageUnavailable`."""
        with atomic.storage_errors():
            try:
                return open(self._file(image_id), 'rb')
            except FileNotFoundError:
                raise ImageNotFound('Image not found.') from None

    def remove(self, image_id: str) -> None:
        """Remove a file durably; raises `ImageNotFound` or `StorageUnavailable`."""
        with atomic.storage_errors():
            atomic.remove(self._file(image_id))

    def is_usable(self) -> bool:
        """Return whether images can be read from the folder and written to it.

        It must exist, be writable, as must its file system, and have free space.
        """
        if not os.access(f'{self._path}/.', os.R_OK | os.W_OK | os.X_OK):
            return False
        try:
            status = os.statvfs(self._path)
        except OSError:
            return False
        has_inodes = (
            status.f_favail > 0 or status.f_files == 0
        )  # some file systems count none
        return has_inodes and status.f_bavail * status.f_frsize >= MIN_FREE

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for each file whose name is that of an image."""
        with atomic.storage_errors(), os.scandir(self._path) as found:
            for file in found:
                if UUID.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat()
                        yield Entry(file.name, status.st_size, status.st_ctime_ns)

    def _file(self, image_id: str) -> str:
        return os.path.join(self._path, image_id)
