"""Decoding and encoding with Pillow, in memory and without the GIL."""

from __future__ import annotations

import errno
import io
import os
import shutil
from typing import Any, BinaryIO

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from ..models import CheckDeadline
from . import jpeg
from .limits import CheckedFile

# Decoders get an upload in small blocks, so that no block takes long to decode. A JPEG
# with one scan takes no longer than its pixels: it is decoded at once, without a copy.
SMALL_BLOCK, WHOLE = 4096, 1 << 30


def open_image(
    data: bytes, format_: str, check_deadline: CheckDeadline, block_size: int = WHOLE
) -> ImageFile.ImageFile:
    """Open an image of a known format; nothing is decoded yet."""
    image = Image.open(CheckedFile(data, check_deadline), formats=(format_,))
    image.decodermaxblock = block_size
    return image


def open_stored(data: bytes, check_deadline: CheckDeadline) -> ImageFile.ImageFile:
    """Open a stored JPEG, also with more pixels than an upload may have now.

    `Image.open` would reject it, by a limit that is the same for the whole process.
    """
    image = JpegImageFile(CheckedFile(data, check_deadline))
    image.decodermaxblock = WHOLE
    return image


def to_jpeg(image: Image.Image, options: dict[str, Any]) -> bytes:
    """Return a JPEG; raise MemoryError if there is no room for it."""
    with open(os.memfd_create('image'), 'w+b') as memory:
        try:
            _encode(image, options, memory)
        except OSError as ex:
            if ex.errno != errno.ENOSPC:
                raise
            raise MemoryError from ex
        return memory.read()


def write_jpeg(image: Image.Image, options: dict[str, Any], target: BinaryIO) -> None:
    """Write a JPEG to a file, through memory: a full disk raises OSError."""
    with open(os.memfd_create('image'), 'w+b') as memory:
        _encode(image, options, memory)
        shutil.copyfileobj(memory, target)


def to_webp(image: Image.Image, options: dict[str, Any]) -> bytes:
    """Return a WebP."""
    memory = io.BytesIO()
    image.save(memory, 'WEBP', **options)
    return memory.getvalue()


def _encode(image: Image.Image, options: dict[str, Any], memory: BinaryIO) -> None:
    """Write a JPEG into memory that has a file descriptor, and rewind it.

    PERF: Pillow releases the GIL only while it writes to a file descriptor. But then it
    ignores a short write, so the end of the JPEG is checked.
    """
    image.save(memory, 'JPEG', **options)
    memory.seek(max(0, memory.seek(0, os.SEEK_END) - len(jpeg.EOI)))
    if memory.read() != jpeg.EOI:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    memory.seek(0)
