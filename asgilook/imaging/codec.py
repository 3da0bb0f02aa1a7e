"""Decoding and encoding with Pillow, in memory and without the GIL."""

from __future__ import annotations

import errno
import io
import os
import shutil
from typing import Any, BinaryIO

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from ..models import CheckDeadline, Size
from . import jpeg
from .limits import CheckedFile

# Decoders get an upload in small blocks, so that no block takes long to decode. A JPEG
# with one scan takes no longer than its pixels: it is decoded at once, without a copy.
SMALL_BLOCK, WHOLE = 4096, 1 << 30


# Width and height of a WebP have 14 bits (RFC 9649, section 2.5).
MAX_WEBP_SIDE = 16_383

# Pixels above which WebP needs a higher quality to look like the JPEG.
_LARGE_WEBP_PIXELS = 400_000


def open_image(
    data: bytes, format_: str, check_deadline: CheckDeadline, block_size: int = WHOLE
) -> ImageFile.ImageFile:
    """Open an image of a known format; nothing is decoded yet."""
    image = Image.open(CheckedFile(data, check_deadline), formats=(format_,))
    image.decodermaxblock = block_size
    return image


def open_stored(data: bytes, check_deadline: CheckDeadline) -> ImageFile.ImageFile:
    """Open a stored JPEG, even if it has more pixels than an upload may have now.

    `Image.open` would reject it, by a limit that is the same for the whole process.
    """
    image = JpegImageFile(CheckedFile(data, check_deadline))
    image.decodermaxblock = WHOLE
    return image


def jpeg_options(image: Image.Image, quality: int) -> dict[str, Any]:
    """Return options that keep a JPEG's tables and subsampling, or the quality."""
    if not isinstance(image, JpegImageFile) or not image.quantization:
        return {'quality': quality}
    used = [table for *_, table in image.layer[:3]]
    while used[1:] and used[-1] == used[-2]:
        used.pop()  # the encoder repeats the last one
    return {
        'qtables': [image.quantization[table] for table in used],
        'subsampling': max(0, get_sampling(image)),
    }


def webp_options(size: Size, quality: int) -> dict[str, Any]:
    """Return options for a WebP that looks like a JPEG of `quality`, but is smaller.

    The scale was chosen by SSIM (benchmarks/README.md). PERF: other methods than 0 take
    too long for the few percent that they save.
    """
    is_large = size[0] * size[1] > _LARGE_WEBP_PIXELS
    webp_quality = quality * 4 // 3 - (30 if is_large else 33)
    return {'quality': min(98, max(0, webp_quality)), 'method': 0}


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
