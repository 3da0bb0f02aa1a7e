"""Sizes of previews, and JPEGs decoded at a fraction of their size."""

from __future__ import annotations

from PIL import Image, ImageFile

from ..models import Size

# Images of up to this many pixels have no preview: they take only a few milliseconds.
MIN_PIXELS = 1_500_000
MAX_PREVIEW_PIXELS = 1 << 20


def preview_size(full: Size, min_thumb_size: int) -> Size | None:
    """Return the size of an image's preview; None if it has none.

    It is the largest listed thumbnail of at most about a megapixel.
    """
    width, height = full
    if width * height <= MIN_PIXELS:
        return None
    while width * height > MAX_PREVIEW_PIXELS:
        width, height = width // 2, height // 2
    return (width, height) if min(width, height) >= min_thumb_size else None


def is_exact(full: Size, size: Size) -> bool:
    """Return whether `size` is `full` divided by a power of two without remainder."""
    scale = full[0] // size[0]
    return full == (size[0] * scale, size[1] * scale)


def reduce(
    image: ImageFile.ImageFile, size: Size, *, is_preview: bool = False
) -> Image.Image:
    """Decode a JPEG, and resample it to `size`, its sides halved k times.

    PERF: libjpeg scales by 1/2, 1/4 or 1/8 at a fraction of the cost of decoding.
    """
    drafted = image.draft(image.mode, _draft_size(image.size, size, is_preview))
    image.load()
    image.info = {}
    if drafted is None or image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, drafted[1])


def _draft_size(full: Size, size: Size, is_preview: bool) -> Size:
    """Return the size to which libjpeg scales: `size`, or twice as large.

    libjpeg rounds odd sides up. Resampling that by a fraction of a pixel loses fine
    detail, below 1/2 a lot: then it starts from more pixels. A preview has already
    lost some, so of it only an exact 1/2 is left to libjpeg (benchmarks/README.md).
    """
    scale = full[0] // size[0]
    if is_exact(full, size):
        is_direct = not is_preview or scale <= 2
    else:
        is_direct = not is_preview and scale <= 2
    return size if is_direct else (size[0] * 2, size[1] * 2)
