"""Corrections of pixels that Pillow decodes differently from browsers."""

from __future__ import annotations

from PIL import Image, ImageFile


def decode(image: ImageFile.ImageFile) -> Image.Image:
    """Decode an image, with the pixels and the transparency that browsers show."""
    tiles = image.tile  # empty after decoding
    image.load()
    if image.format == 'PNG' and tiles[0].args == 'LA;16B':
        return image.convert('LA')  # Pillow decodes it as RGBA
    return image
