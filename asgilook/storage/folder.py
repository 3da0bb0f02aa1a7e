"""The files of images in a folder, which any number of processes share."""

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

# With less room than this, in bytes, hardly a picture can be stored.
LEAST_ROOM = 1024 * 1024


class FolderStorage:
    """A `Storage` in which the file of an image has its id as its name.

    Where ids come back, the last file counts if a file `replaces` an older one.
    """

    def __init__(self, path: str, *, replaces: bool = True) -> None:
        self._path = path
        self._replaces = replaces
        self.previews = FolderPreviews(path)

    def start(self) -> None:
        """Make the folder and sweep it; raises OSError."""
        os.makedirs(self._path, exist_ok=True)
        if self._path == DEFAULT_STORAGE_PATH:
            log.warning(
                'images are kept in %s, which does not outlive a reboot: '
                'set ASGI_LOOK_STORAGE_PATH',
                self._path,
            )
        swept = atomic.sweep(self._path)
        if swept:
            log.info('removed %d temporary files of uploads that were cut off', swept)
        self.previews.sweep()

    def stop(self) -> None:
        """Nothing is held."""

    def create(self) -> atomic.NewFile:
        """Begin a new file under a temporary name."""
        with atomic.storage_errors():
            return atomic.NewFile(self._path, replaces=self._replaces)

    def open(self, image_id: str) -> BinaryIO:
        """Open a file; raises `ImageNotFound` or `StorageUnavailable`."""
        with atomic.storage_errors():
            try:
                return open(self._file(image_id), 'rb')
            except FileNotFoundError:
                raise ImageNotFound('There is no such image.') from None

    def remove(self, image_id: str) -> None:
        """Remove a file for good; raises `ImageNotFound` or `StorageUnavailable`."""
        with atomic.storage_errors():
            atomic.remove(self._file(image_id))

    def is_usable(self) -> bool:
        """Tell whether images can be read from the folder and written to it.

        It must be there, it and its file system must not be read-only, and room be
        left.
        """
        if not os.access(f'{self._path}/.', os.R_OK | os.W_OK | os.X_OK):
            return False
        try:
            status = os.statvfs(self._path)
        except OSError:
            return False
        has_inodes = status.f_favail > 0 or status.f_files == 0  # some count none
        return has_inodes and status.f_bavail * status.f_frsize >= LEAST_ROOM

    def entries(self) -> Iterator[Entry]:
        """Yield the files that have the name of an image."""
        with atomic.storage_errors(), os.scandir(self._path) as found:
            for file in found:
                if UUID.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat()
                        yield Entry(file.name, status.st_size, status.st_ctime_ns)

    def _file(self, image_id: str) -> str:
        return os.path.join(self._path, image_id)
