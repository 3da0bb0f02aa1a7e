"""Sizes of previews, and JPEGs decoded at a fraction of their size."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, ImageFile

from ..models import Size, halved

# Images of up to this many pixels have no preview: they take only a few milliseconds.
MIN_PIXELS = 1_500_000
MAX_PREVIEW_PIXELS = 1 << 20


def preview_sizes(full: Size, min_thumb_size: int) -> list[Size]:
    """Return the sizes of an image's previews, the largest first.

    They are its listed thumbnails of at most about a megapixel.
    """
    if full[0] * full[1] <= MIN_PIXELS:
        return []
    sizes = halved(full, min_thumb_size)
    return [size for size in sizes if size[0] * size[1] <= MAX_PREVIEW_PIXELS]


def halvings(pixels: Image.Image, sizes: list[Size]) -> Iterator[Image.Image]:
    """Yield the first preview, and the others, each made from the one before.

    PERF: the mean of 2 x 2 pixels takes an eighth of the time of Lanczos. It loses
    little if it is used once, for the largest of them (benchmarks/README.md).
    """
    yield pixels
    for size in sizes[1:]:
        if size == sizes[1] and pixels.size == (size[0] * 2, size[1] * 2):
            pixels = pixels.reduce(2)
        else:
            pixels = pixels.resize(size, Image.Resampling.LANCZOS)
        yield pixels


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
