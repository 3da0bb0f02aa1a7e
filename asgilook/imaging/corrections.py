"""Corrections of pixels that Pillow decodes differently from browsers."""

from __future__ import annotations

from typing import cast

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from . import color, tiff

Box = tuple[int, int, int, int]

# libtiff converts samples to the native byte order, but Pillow expects the file's.
_NATIVE = {'F;32BF': 'F;32NF', 'I;16BS': 'I;16NS', 'I;32BS': 'I;32NS'}


def decode(image: ImageFile.ImageFile) -> Image.Image:
    """Decode an image, with the pixels and the transparency that browsers show."""
    if isinstance(image, TiffImageFile):
        return _decode_tiff(image)
    tiles = image.tile  # empty after decoding
    image.load()
    if image.format == 'PNG' and tiles[0].args == 'LA;16B':
        return image.convert('LA')  # Pillow decodes it as RGBA
    if image.format == 'BMP' and image.mode == 'RGBA':
        return _without_empty_alpha(image)
    if image.format == 'GIF' and 'transparency' not in image.info:
        return _on_white(image, tiles[0].extents)
    return image


def _without_empty_alpha(image: Image.Image) -> Image.Image:
    """Return an image as opaque if it is transparent everywhere.

    Many programs declare an alpha mask in a BMP, but leave its bits 0.
    """
    is_empty = image.getchannel('A').getextrema() == (0, 0)
    return image.convert('RGB') if is_empty else image


def _on_white(image: Image.Image, frame: Box | None) -> Image.Image:
    """Return the image with white where its first frame does not cover it."""
    if frame == (0, 0, *image.size):
        return image
    white = Image.new('L' if image.mode == 'L' else 'RGB', image.size, 'white')
    white.paste(image.crop(frame), frame)
    return white


def _decode_tiff(image: TiffImageFile) -> Image.Image:
    tags = image.tag_v2
    bits = tags.get(tiff.BITS_PER_SAMPLE, (1,))[0]
    tile = image.tile[0]
    if tile.codec_name == 'libtiff' and isinstance(tile.args, tuple):
        args = _NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]
        image.tile = [tile._replace(args=args)]
    elif bits == 16 and tags.get(tiff.PLANAR_CONFIGURATION) == tiff.SEPARATE:
        # Pillow's own decoder reads planes as if their samples had 8 bits.
        image.use_load_libtiff = True
        extents = 0, 0, tags[tiff.WIDTH], tags[tiff.LENGTH]
        args = f'{image.mode};16N', False, tags.offset
        image.tile = [tile._replace(codec_name='libtiff', extents=extents, args=args)]
    image.load()
    if _has_wrapped(image):
        return _unsigned(image)
    white_is_zero = tags.get(tiff.PHOTOMETRIC, 0) == tiff.WHITE_IS_ZERO
    return color.to_bytes(image, bits=min(bits, 16), white_is_zero=white_is_zero)


def _has_wrapped(image: TiffImageFile) -> bool:
    """Return whether unsigned samples of 32 bits were decoded as negative ones."""
    format_ = image.tag_v2.get(tiff.SAMPLE_FORMAT, (tiff.UNSIGNED,))
    if image.mode != 'I' or format_[0] != tiff.UNSIGNED:
        return False
    low, _ = cast(tuple[int, int], image.getextrema())
    return low < 0


def _unsigned(image: Image.Image) -> Image.Image:
    """Return the upper 8 bits of unsigned samples that were decoded as signed ones."""
    upper = image.point(lambda value: value * 2**-24 + 128).convert('L')
    return upper.point([value ^ 128 for value in range(256)])
