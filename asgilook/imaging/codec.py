"""Decoding and encoding with Pillow, in memory and without the GIL."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any, BinaryIO

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from ..models import CheckDeadline, Size
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


def reduce(image: ImageFile.ImageFile, size: Size, draft_size: Size) -> Image.Image:
    """Decode a JPEG at about `draft_size`, and resample it to `size`.

    PERF: libjpeg scales by 1/2, 1/4 or 1/8 at a part of the cost of decoding.
    """
    drafted = image.draft(image.mode, draft_size)
    image.load()
    image.info = {}
    if drafted is None or image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, drafted[1])


def encode(image: Image.Image, options: dict[str, Any], target: BinaryIO) -> None:
    """Write a JPEG to a file with a descriptor; raise OSError if it is incomplete.

    PERF: Pillow releases the GIL only while it writes to a file descriptor. But then it
    ignores a short write, so the end of the file is checked.
    """
    image.save(target, 'JPEG', **options)
    target.seek(max(0, target.seek(0, os.SEEK_END) - len(jpeg.EOI)))
    if target.read() != jpeg.EOI:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write(image: Image.Image, options: dict[str, Any], target: BinaryIO) -> None:
    """Write a JPEG to any file, through memory, and without the GIL."""
    with open(os.memfd_create('jpeg'), 'w+b') as memory:
        encode(image, options, memory)
        memory.seek(0)
        shutil.copyfileobj(memory, target)
