"""Pixels: any accepted picture to a clean JPEG, and a stored JPEG to a thumbnail.

Pure and synchronous: binary file in, binary file out.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import warnings
from typing import Any, BinaryIO

import PIL

# TIFF and WebP only for Pillow to know them: else it imports all of its formats.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    Image,
    ImageFile,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from ..errors import UnsupportedFormat
from ..models import CheckDeadline, Size
from . import color, exif, jpeg
from .formats import Picture, take_apart
from .limits import CheckedFile, decoding, refuse

# In entity tags: to be raised with whatever changes the bytes of a thumbnail.
RENDERER = f'2-{PIL.__version__}-{features.version("libjpeg_turbo")}'

# Of an upload decoders get small blocks, so that no block is long to decode. A sound
# JPEG takes no longer than its pixels: it is decoded all at once, without a copy.
SMALL_BLOCK, ALL = 4096, 1 << 30

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def configure(max_pixels: int) -> None:
    """Set what Pillow keeps for the whole process: once, at start.

    Some decoders allocate before a size can be compared with the limit: Pillow
    refuses more than twice MAX_IMAGE_PIXELS. What it says about files is noise.
    """
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Keep up to 192 MB for the next picture: fresh memory costs a third of the time.
    core = Image.core  # type: ignore[attr-defined]
    core.set_block_size(16 << 20)
    core.set_blocks_max(12)
    warnings.filterwarnings('ignore', module=r'PIL\.')
    logging.getLogger('PIL').setLevel(logging.CRITICAL)


def to_jpeg(
    source: BinaryIO,
    target: BinaryIO,
    *,
    max_pixels: int,
    quality: int,
    check: CheckDeadline,
) -> tuple[Size, str]:
    """Write an upload as a clean JPEG; return the size of it and the upload's format.

    Raises `UnsupportedFormat`, `ImageDamaged`, `UploadTooLarge`, OSError of the files,
    MemoryError, and whatever `check` raises.
    """
    data = source.read()
    with decoding(check) as checked:
        picture = take_apart(data, checked)
        del data
        if picture is None:
            raise UnsupportedFormat(
                'The file is not a JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF image.'
            )
        block = ALL if picture.sound else SMALL_BLOCK
        image = _open(picture.data, picture.format, checked, block)
        refuse(picture, image, max_pixels)
        options = _save_options(image, quality)
        size = image.size
        clean: Image.Image | tuple[memoryview, bytes]
        if _is_ready(picture, image, checked):
            clean = jpeg.ended(picture.data)
        else:
            clean = _decode(picture, image)
        format_ = picture.format
        del picture, image  # a turned picture is in memory twice until here
    check()
    if isinstance(clean, tuple):
        for part in clean:
            target.write(part)
        target.flush()
        return size, format_
    _write(clean, target, options)
    return clean.size, format_


def thumbnail(
    source: BinaryIO,
    target: BinaryIO,
    size: Size,
    *,
    quality: int,
    check: CheckDeadline,
) -> None:
    """Write a stored JPEG at `size`: both its sides halved and floored k times.

    libjpeg itself scales down to 1/8, at the cost of a part of the decoding.
    Raises `ImageDamaged`, OSError of the files, MemoryError, and whatever `check` does.
    """
    data = source.read()
    with decoding(check) as checked:
        image = _open(data, 'JPEG', checked)
        drafted = image.draft(image.mode, _first_size(image.size, size))
        image.load()
        image.info = {}
        small: Image.Image = image
        if drafted and image.size != size:
            small = image.resize(size, Image.Resampling.LANCZOS, drafted[1])
    check()
    _encode(small, target, {'quality': quality})


def _first_size(full: Size, size: Size) -> Size:
    """Return the size to which libjpeg is to scale: the thumbnail's, or once more.

    It rounds odd sides up. To shift the pixels by a fraction of one then costs fine
    detail, below 1/2 much of it (benchmarks/README.md), so they are taken from more.
    """
    scale = full[0] // size[0]
    if scale > 2 and (full[0] % scale or full[1] % scale):
        return size[0] * 2, size[1] * 2
    return size


def _open(
    data: bytes, format_: str, check: CheckDeadline, block: int = ALL
) -> ImageFile.ImageFile:
    image = Image.open(CheckedFile(data, check), formats=(format_,))
    image.decodermaxblock = block
    return image


def _save_options(image: Image.Image, quality: int) -> dict[str, Any]:
    """Return what keeps a JPEG's own tables and subsampling, or else the quality."""
    if not isinstance(image, JpegImageFile) or not image.quantization:
        return {'quality': quality}
    used = [table for *_, table in image.layer[:3]]
    while used[1:] and used[-1] == used[-2]:
        used.pop()  # the encoder takes the last one for the rest
    return {
        'qtables': [image.quantization[table] for table in used],
        'subsampling': max(0, get_sampling(image)),
    }


def _metadata(picture: Picture, image: Image.Image) -> tuple[int, bytes]:
    """Return the orientation and the ICC profile, from wherever they are."""
    found, icc = (image.info.get(key) for key in ('exif', 'icc_profile'))
    return (
        exif.orientation(found if isinstance(found, bytes) else picture.exif),
        icc if isinstance(icc, bytes) else picture.icc,
    )


def _is_ready(picture: Picture, image: Image.Image, check: CheckDeadline) -> bool:
    """Tell whether a JPEG may be stored with its own scan; raise if that is damaged."""
    orientation, icc = _metadata(picture, image)
    if not picture.sound or orientation != 1:
        return False
    if icc and not color.is_srgb(icc, image.mode):
        return False
    # At 1/8 libjpeg reads all of the scan, but computes few of its pixels.
    proof = _open(picture.data, 'JPEG', check)
    proof.draft('L', (max(1, image.width // 8), max(1, image.height // 8)))
    proof.load()
    return True


def _decode(picture: Picture, image: Image.Image) -> Image.Image:
    """Return the picture upright, grey or sRGB, without anything but its pixels."""
    image.load()
    orientation, icc = _metadata(picture, image)
    flat = color.flatten(image, icc)
    if orientation in _UPRIGHT:
        flat = flat.transpose(_UPRIGHT[orientation])
    flat.info = {}
    return flat


def _write(image: Image.Image, target: BinaryIO, options: dict[str, Any]) -> None:
    # Only to a real file does Pillow write without the GIL, but there it loses what a
    # full disk refuses of a block. So it writes to memory, and Python to the disk.
    with open(os.memfd_create('jpeg'), 'w+b') as memory:
        _encode(image, memory, options)
        memory.seek(0)
        shutil.copyfileobj(memory, target)
    target.flush()


def _encode(image: Image.Image, target: BinaryIO, options: dict[str, Any]) -> None:
    """Write a whole JPEG: what Pillow could not write, it doesn't tell."""
    image.save(target, 'JPEG', **options)
    target.seek(max(0, target.seek(0, os.SEEK_END) - len(jpeg.EOI)))
    if target.read() != jpeg.EOI:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
