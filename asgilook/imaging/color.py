"""Colours: from any mode and profile to what a JPEG holds, grey or sRGB."""

from __future__ import annotations

import io
import math
from itertools import product
from typing import cast

from PIL import Image, ImageCms

_SPACES = {'L': 'GRAY', 'RGB': 'RGB ', 'CMYK': 'CMYK'}
# How far, of 255, a profile may move a colour and still count as sRGB.
_TOLERANCE = 2
_STEPS = (0, 16, 48, 96, 144, 192, 224, 255)

_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def flatten(image: Image.Image, icc: bytes) -> Image.Image:
    """Return the picture in mode L or RGB, in sRGB, on white where transparent.

    The image passed in may be changed.
    """
    image = _on_white(_to_bytes(image))
    if image.mode not in _SPACES:
        image = image.convert('L' if _is_grey(image) else 'RGB')
    transform = _transform(icc, image.mode)
    if transform and not _is_identity(transform):
        image = _apply(transform, image)
    return image.convert('RGB') if image.mode == 'CMYK' else image


def is_srgb(icc: bytes, mode: str) -> bool:
    """Tell whether a profile changes no colour to speak of, or can't be used."""
    transform = _transform(icc, mode)
    return not transform or _is_identity(transform)


def _to_bytes(image: Image.Image) -> Image.Image:
    """Scale samples of 16 or 32 bits to bytes."""
    hidden = image.info.get('transparency')
    if image.mode.startswith('I;16'):
        image = image.convert('I')
    if image.mode not in ('I', 'F'):
        return image
    low, high = _range(image)
    scale = 255 / (high - low) if high > low else 1.0
    offset = 0.5 - low * scale
    grey = image.point(lambda value: value * scale + offset).convert('L')
    if isinstance(hidden, int) and image.mode == 'I':
        mask = [255] * 65536
        mask[hidden] = 0
        grey.putalpha(image.point(mask, 'L'))
    return grey


def _range(image: Image.Image) -> tuple[float, float]:
    """Return which values of long samples are black and white: files don't say it.

    0 to 65535 for integers, and 0 to 1, 255 or 65535 for floats, where all values
    lie within; otherwise the least and the greatest value.
    """
    low, high = cast(tuple[float, float], image.getextrema())
    for limit in (65535,) if image.mode == 'I' else (1, 255, 65535):
        if low >= 0 and high <= limit:
            return 0, limit
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (0, 1)


def _is_grey(image: Image.Image) -> bool:
    if image.mode != 'P':
        return image.mode in ('1', 'L', 'LA', 'La')
    palette = image.getpalette() or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    grey = _is_grey(image)
    if image.mode not in ('LA', 'RGBA'):
        image = image.convert('LA' if grey else 'RGBA')
    white = Image.new('L' if grey else 'RGB', image.size, 'white')
    white.paste(image, mask=image)
    return white


def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None if it is damaged or not of `mode`."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if profile.profile.xcolor_space != _SPACES[mode]:
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
        # Of a grey one all 256 values are computed, so that they may as well be exact.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == 'L' else ImageCms.Flags.NONE
        return ImageCms.ImageCmsTransform(profile, srgb, mode, 'RGB', flags=flags)
    except _PROFILE_ERRORS:
        return None


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    if transform.input_mode == 'CMYK':
        return False
    samples = _samples(transform.input_mode)
    before = samples.convert('RGB').tobytes()
    after = transform.apply(samples).tobytes()
    return all(abs(a - b) <= _TOLERANCE for a, b in zip(before, after, strict=True))


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    if image.mode == 'L':
        ramp = transform.apply(_samples('L'))
        return image.point(ramp.getchannel('G').tobytes())
    if image.mode == 'RGB':
        return transform.apply_in_place(image)
    return transform.apply(image)


def _samples(mode: str) -> Image.Image:
    """Return one row of all grey values, or of colours from all over the cube."""
    if mode == 'L':
        return Image.frombytes('L', (256, 1), bytes(range(256)))
    colours = bytes(value for rgb in product(_STEPS, repeat=3) for value in rgb)
    return Image.frombytes('RGB', (len(colours) // 3, 1), colours)
