"""Corrections of pixels that Pillow decodes differently from browsers."""

from __future__ import annotations

from PIL import Image, ImageFile


def decode(image: ImageFile.ImageFile) -> Image.Image:
    """Decode an image, with the pixels and the transparency that browsers show."""
    tiles = image.tile  # empty after decoding
    image.load()
    if image.format == 'PNG' and tiles[0].args == 'LA;16B':
        return image.convert('LA')  # Pillow decodes it as RGBA
    if image.format == 'BMP' and image.mode == 'RGBA':
        return _without_empty_alpha(image)
    return image


def _without_empty_alpha(image: Image.Image) -> Image.Image:
    """Return an image as opaque if it is transparent everywhere.

    Many programs declare an alpha mask in a BMP, but leave its bits 0.
    """
    is_empty = image.getchannel('A').getextrema() == (0, 0)
    return image.convert('RGB') if is_empty else image
