"""Color conversion: from any mode and ICC profile to gray or sRGB."""

from __future__ import annotations

import io
import math
from itertools import product
from typing import cast

from PIL import Image, ImageCms

_MODES = {'GRAY': 'L', 'RGB ': 'RGB', 'CMYK': 'CMYK'}
# Largest change of a sample, of 255, by a profile that still counts as sRGB.
_TOLERANCE = 2
_STEPS = (0, 16, 48, 96, 144, 192, 224, 255)

_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def flatten(image: Image.Image, icc: bytes) -> Image.Image:
    """Return the image in mode L or RGB, as sRGB, with transparency on white.

    The given image may be modified.
    """
    image = _on_white(to_bytes(image))
    if image.mode not in _MODES.values():
        image = image.convert('L' if _is_gray(image) else 'RGB')
    transform = _transform(icc, image.mode)
    if transform and not _is_identity(transform, image.mode):
        image = _apply(transform, image)
    return image.convert('RGB') if image.mode == 'CMYK' else image


def is_srgb(icc: bytes, mode: str) -> bool:
    """Return whether a profile can be ignored: sRGB, damaged, or of another mode."""
    transform = _transform(icc, mode)
    return not transform or _is_identity(transform, mode)


def to_bytes(
    image: Image.Image, *, bits: int = 16, white_is_zero: bool = False
) -> Image.Image:
    """Scale gray samples of more than 8 bits to 8 bits.

    `bits` is the depth of integers, if it is less than 16.
    """
    transparent = image.info.get('transparency')
    if image.mode.startswith('I;16'):
        image = image.convert('I')
    if image.mode not in ('I', 'F'):
        return image
    black, white = _range(image, bits)
    if white_is_zero:
        black, white = white, black
    scale = 255 / (white - black) if white != black else 1.0
    offset = 0.5 - black * scale
    gray = image.point(lambda value: value * scale + offset).convert('L')
    if isinstance(transparent, int) and image.mode == 'I':
        mask = [255] * 65536
        mask[transparent] = 0
        gray.putalpha(image.point(mask, 'L'))
    return gray


def _range(image: Image.Image, bits: int) -> tuple[float, float]:
    """Return the values of black and white, which files with long samples do not state.

    All values of `bits` for integers, and 0 to 1, 255 or 65535 for floats, if all
    samples lie within; otherwise the minimum and the maximum.
    """
    low, high = cast(tuple[float, float], image.getextrema())
    for limit in (2**bits - 1,) if image.mode == 'I' else (1, 255, 65535):
        if low >= 0 and high <= limit:
            return 0, limit
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (0, 1)


def _is_gray(image: Image.Image) -> bool:
    if image.mode != 'P':
        return image.mode in ('1', 'L', 'LA', 'La')
    palette = image.getpalette() or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    is_gray = _is_gray(image)
    if image.mode not in ('LA', 'RGBA'):
        image = image.convert('LA' if is_gray else 'RGBA')
    white = Image.new('L' if is_gray else 'RGB', image.size, 'white')
    white.paste(image, mask=image)
    return white


def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB; None if the profile is damaged or not for `mode`.

    As in browsers, an RGB profile applies to gray, but not the other way round.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = _MODES.get(profile.profile.xcolor_space, '')
        if space != mode and (space, mode) != ('RGB', 'L'):
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
        # Gray needs only 256 values: compute them exactly.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == 'L' else ImageCms.Flags.NONE
        return ImageCms.ImageCmsTransform(profile, srgb, space, 'RGB', flags=flags)
    except _PROFILE_ERRORS:
        return None


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == 'CMYK':
        return False
    samples = _samples(mode)
    return _are_close(samples.convert('RGB'), _converted(transform, samples))


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    if image.mode == 'L':
        ramp = _converted(transform, _samples('L'))
        green = ramp.getchannel('G')
        if _are_close(ramp, green.convert('RGB')):
            return image.point(green.tobytes())
        return image.convert('RGB').point(b''.join(c.tobytes() for c in ramp.split()))
    if image.mode == 'RGB':
        return transform.apply_in_place(image)
    return transform.apply(image)


def _converted(
    transform: ImageCms.ImageCmsTransform, samples: Image.Image
) -> Image.Image:
    return transform.apply(samples.convert(transform.input_mode))


def _are_close(one: Image.Image, other: Image.Image) -> bool:
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return all(abs(a - b) <= _TOLERANCE for a, b in pairs)


def _samples(mode: str) -> Image.Image:
    """Return one row of all gray values, or of colors from the whole RGB cube."""
    if mode == 'L':
        return Image.frombytes('L', (256, 1), bytes(range(256)))
    colors = bytes(value for rgb in product(_STEPS, repeat=3) for value in rgb)
    return Image.frombytes('RGB', (len(colors) // 3, 1), colors)
