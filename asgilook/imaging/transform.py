"""Uploads to clean JPEGs, and stored JPEGs to thumbnails."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal

import PIL

# TIFF and WebP are imported for Pillow to know them: otherwise it imports all formats.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    Image,
    ImageFile,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from ..errors import UnsupportedFormat
from ..models import CheckDeadline, Size
from . import codec, color, corrections, exif, formats, jpeg, limits, reduction
from .formats import Picture

# Part of entity tags: increment it with every change to the bytes of a thumbnail.
RENDERER = f'4-{PIL.__version__}-{features.version("libjpeg_turbo")}'
WEBP_RENDERER = f'{RENDERER}-{features.version("webp")}'

Format = Literal['jpeg', 'webp']

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Upload:
    """A converted upload: the size of the JPEG, and the format that was uploaded.

    `previews` are the JPEGs of its previews; empty if it has none, or not yet.
    """

    size: Size
    format: str
    previews: list[bytes]


@dataclass(frozen=True)
class _Clean:
    """An upload that was decoded without an error, and a function that stores it."""

    size: Size
    write: Callable[[BinaryIO], None]
    preview: Image.Image | None = None


def configure(max_pixels: int) -> None:
    """Set Pillow's process-wide options; call it once, at start.

    Some decoders allocate memory before the size can be compared with the limit, but
    Pillow itself rejects more than twice MAX_IMAGE_PIXELS. Its warnings and log
    messages about files are suppressed.
    """
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # PERF: keep up to 192 MB for the next image: new memory takes a third of the time.
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
    min_thumb_size: int,
    check_deadline: CheckDeadline,
) -> Upload:
    """Write an upload as a clean JPEG.

    Raises `UnsupportedFormat`, `ImageDamaged`, `UploadTooLarge`, OSError of the files,
    MemoryError, and what `check_deadline` raises.
    """
    data = source.read()
    with limits.decoding(check_deadline) as checked:
        picture = formats.parse(data, checked)
        if picture is None:
            raise UnsupportedFormat(formats.describe_unsupported(data))
        del data
        format_ = picture.format
        clean = _clean(picture, max_pixels, quality, min_thumb_size, checked)
        del picture  # its bytes are not needed while pixels are encoded
    check_deadline()
    clean.write(target)
    target.flush()
    previews = []
    if clean.preview is not None:
        sizes = reduction.preview_sizes(clean.size, min_thumb_size)
        previews = encode_previews(clean.preview, sizes, quality)
    return Upload(clean.size, format_, previews)


def _clean(
    picture: Picture,
    max_pixels: int,
    quality: int,
    min_thumb_size: int,
    check_deadline: CheckDeadline,
) -> _Clean:
    block_size = codec.WHOLE if picture.is_rewritten else codec.SMALL_BLOCK
    image = codec.open_image(picture.data, picture.format, check_deadline, block_size)
    limits.enforce(picture, image, max_pixels)
    if _can_keep(picture, image):
        preview = _prove(picture.data, image.size, min_thumb_size, check_deadline)
        return _Clean(image.size, partial(_copy, picture.data), preview)
    options = codec.jpeg_options(image, quality)
    flat = _decode(picture, image)
    return _Clean(flat.size, partial(codec.write_jpeg, flat, options))


def _copy(rewritten: bytes, target: BinaryIO) -> None:
    for part in jpeg.finish(rewritten):
        target.write(part)


def previews(
    data: bytes, sizes: list[Size], *, quality: int, check_deadline: CheckDeadline
) -> list[bytes]:
    """Return the previews of a stored JPEG: thumbnails of `sizes`, the largest first.

    Raises `ImageDamaged`, MemoryError, and what `check_deadline` raises.
    """
    with limits.decoding(check_deadline) as checked:
        pixels = reduction.reduce(codec.open_stored(data, checked), sizes[0])
    check_deadline()
    return encode_previews(pixels, sizes, quality)


def encode_previews(
    pixels: Image.Image, sizes: list[Size], quality: int
) -> list[bytes]:
    """Return JPEGs of `sizes` from the pixels of the first."""
    return [
        codec.to_jpeg(each, {'quality': quality})
        for each in reduction.halvings(pixels, sizes)
    ]


def thumbnail(
    data: bytes,
    size: Size,
    *,
    quality: int,
    check_deadline: CheckDeadline,
    format_: Format = 'jpeg',
    is_preview: bool = False,
) -> bytes:
    """Return a stored JPEG or a preview at `size`: its sides halved k times.

    Raises `ImageDamaged`, MemoryError, and what `check_deadline` raises.
    """
    with limits.decoding(check_deadline) as checked:
        image = codec.open_stored(data, checked)
        small = reduction.reduce(image, size, is_preview=is_preview)
    check_deadline()
    if format_ == 'webp':
        return codec.to_webp(small, codec.webp_options(size, quality))
    return codec.to_jpeg(small, {'quality': quality})


def _can_keep(picture: Picture, image: Image.Image) -> bool:
    """Return whether a JPEG may be stored with its own scan."""
    orientation, icc = _metadata(picture, image)
    if not picture.is_rewritten or orientation != 1:
        return False
    return not icc or color.is_srgb(icc, image.mode)


def _prove(
    data: bytes, full: Size, min_thumb_size: int, check_deadline: CheckDeadline
) -> Image.Image | None:
    """Decode the whole scan of a JPEG; return the pixels of its first preview, if any.

    Raises if the scan is damaged. PERF: libjpeg reads all of it at any scale. Previews
    that take resampling are left for later; an image without any is decoded at 1/8.
    """
    image = codec.open_image(data, 'JPEG', check_deadline)
    sizes = reduction.preview_sizes(full, min_thumb_size)
    if sizes and reduction.is_exact(full, sizes[0]):
        return reduction.reduce(image, sizes[0])
    image.draft('L', (max(1, image.width // 8), max(1, image.height // 8)))
    image.load()
    return None


def _decode(picture: Picture, image: ImageFile.ImageFile) -> Image.Image:
    """Return the image upright, gray or sRGB, with nothing but its pixels."""
    pixels = corrections.decode(image)
    orientation, icc = _metadata(picture, image)
    flat = color.flatten(pixels, icc)
    if orientation in _TRANSPOSITIONS:
        flat = flat.transpose(_TRANSPOSITIONS[orientation])
    flat.info = {}
    return flat


def _metadata(picture: Picture, image: Image.Image) -> tuple[int, bytes]:
    """Return the orientation and the ICC profile, from Pillow or from the container."""
    found, icc = (image.info.get(key) for key in ('exif', 'icc_profile'))
    return (
        exif.orientation(found if isinstance(found, bytes) else picture.exif),
        icc if isinstance(icc, bytes) else picture.icc,
    )
