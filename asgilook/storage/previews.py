"""Previews: the small JPEG thumbnails of large images, kept beside the images.

They are derived from the images and can be removed at any time: nothing is flushed to
disk, and what cannot be read counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import struct
import time
from collections.abc import Iterator
from typing import Protocol

from ..errors import AsgilookError
from ..models import UUID, Image
from . import atomic

log = logging.getLogger(__name__)

# Of a folder of images. The leading dot keeps `asgilook import` out of it.
FOLDER = '.previews'

_SEAL_SIZE = 16
_LENGTH_SIZE = 4
# Larger than the previews of any image, in bytes.
_MAX_SIZE = 16 << 20
# Time between two log messages about previews that can't be stored, in seconds.
LOG_INTERVAL = 60.0


class PreviewFiles(Protocol):
    """The files of previews, one per image, by image id; all methods may block.

    Raises OSError or an `AsgilookError`.
    """

    def read(self, image_id: str) -> bytes:
        """Return the content of a file."""
        ...

    def write(self, image_id: str, content: bytes) -> None:
        """Store a file in one step, in place of an older one."""
        ...

    def remove(self, image_id: str) -> None:
        """Remove a file if it exists."""
        ...

    def image_ids(self) -> Iterator[str]:
        """Yield the image ids of all files, in any order."""
        ...


class FolderPreviews:
    """Previews in a subfolder of the storage folder, which the first one creates."""

    def __init__(self, storage_path: str) -> None:
        self._path = os.path.join(storage_path, FOLDER)

    def sweep(self) -> None:
        """Remove the temporary files of dead processes."""
        with contextlib.suppress(OSError):
            atomic.sweep(self._path)

    def read(self, image_id: str) -> bytes:
        """Return the content of a file; raises OSError."""
        with open(
            self._file(image_id), 'rb', opener=atomic.open_without_blocking
        ) as file:
            # PERF: not _MAX_SIZE, which allocates that much.
            return file.read(min(os.fstat(file.fileno()).st_size, _MAX_SIZE))

    def write(self, image_id: str, content: bytes) -> None:
        """Store a file under a temporary name, and rename it; raises OSError."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._path)
        new = atomic.NewFile(self._path, durable=False)
        try:
            new.file.write(content)
            new.publish(image_id)
        finally:
            new.close()

    def remove(self, image_id: str) -> None:
        """Remove a file if it exists; raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file(image_id))

    def image_ids(self) -> Iterator[str]:
        """Yield the image ids of all files; raises OSError."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as found:
            yield from (file.name for file in found if UUID.fullmatch(file.name))

    def _file(self, image_id: str) -> str:
        return os.path.join(self._path, image_id)


class Previews:
    """Previews of stored images, made with one renderer; all methods may block.

    The file of an image consists of its JPEGs, each followed by a seal, and the lengths
    of these parts. A seal is a digest of the JPEG and of everything that it depends on:
    the id, time and length of the image, the renderer, and its number among the
    previews. So a truncated, damaged, foreign or outdated file is recognized without
    decoding it.

    Args:
        files: where they are stored.
        renderer: name of the quality and version of what makes them.
    """

    def __init__(self, files: PreviewFiles, *, renderer: str) -> None:
        self._files = files
        self._renderer = renderer
        self._log_at = 0.0

    def read(self, image: Image, number: int, count: int) -> bytes | None:
        """Return one of the previews of an image; None if they have to be made."""
        try:
            content = self._files.read(image.image_id)
        except (OSError, AsgilookError):
            return None
        part = _part(content, number, count)
        preview, seal = part[:-_SEAL_SIZE], part[-_SEAL_SIZE:]
        return preview if seal == self._seal(image, number, preview) else None

    def write(self, image: Image, previews: list[bytes]) -> None:
        """Store the previews of an image; a failure is logged, once a minute."""
        parts = [
            preview + self._seal(image, number, preview)
            for number, preview in enumerate(previews)
        ]
        lengths = struct.pack(f'>{len(parts)}I', *map(len, parts))
        try:
            self._files.write(image.image_id, b''.join([*parts, lengths]))
        except (OSError, AsgilookError) as ex:
            self._warn(f"can't store the previews of {image.image_id}", ex)

    def remove(self, image_id: str) -> None:
        """Remove the previews of an image; a failure is logged, once a minute."""
        try:
            self._files.remove(image_id)
        except (OSError, AsgilookError) as ex:
            self._warn(f"can't remove the previews of {image_id}", ex)

    def _seal(self, image: Image, number: int, preview: bytes) -> bytes:
        of_image = image.image_id, image.modified_ns, image.length
        identity = (*of_image, self._renderer, number)
        seal = hashlib.blake2b(repr(identity).encode(), digest_size=_SEAL_SIZE)
        seal.update(preview)
        return seal.digest()

    def _warn(self, message: str, ex: Exception) -> None:
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL
            log.warning('%s: %s', message, ex)


def _part(content: bytes, number: int, count: int) -> bytes:
    """Return a part of a file that should have `count`; any bytes of another file."""
    lengths_size = count * _LENGTH_SIZE
    if len(content) < lengths_size:
        return b''
    lengths = struct.unpack(f'>{count}I', content[-lengths_size:])
    start = sum(lengths[:number])
    return content[start : start + lengths[number]]
