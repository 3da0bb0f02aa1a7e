"""Synthetic pictures that are as hard to compress as photos."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# At quality 85, such a picture of 12 megapixels takes about 2.3 MB.
FALLOFF = 1.4
CONTRAST = 50
GRAIN = 3
QUALITY = 85

ORIENTATION = 0x0112


def photo(width: int, height: int, seed: int = 1) -> bytes:
    """Make a baseline JPEG, 4:2:0, with coarse and fine detail as in a photo."""
    random = np.random.default_rng(seed)
    planes = [
        _plane(random, width, height, CONTRAST, GRAIN),
        *(
            _plane(random, width // 2, height // 2, CONTRAST / 3, 0).resize(
                (width, height)
            )
            for _ in range(2)
        ),
    ]
    file = io.BytesIO()
    Image.merge('YCbCr', planes).save(file, 'JPEG', quality=QUALITY)
    return file.getvalue()


def _plane(
    random: np.random.Generator, width: int, height: int, contrast: float, grain: float
) -> Image.Image:
    """Make noise whose amplitude falls with the frequency, and some that doesn't."""
    frequency = np.hypot(np.fft.rfftfreq(width), np.fft.fftfreq(height)[:, np.newaxis])
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(random.standard_normal((height, width))) / frequency**FALLOFF
    plane = np.fft.irfft2(noise, (height, width))
    plane *= contrast / plane.std()
    plane += grain * random.standard_normal(plane.shape)
    return Image.fromarray(np.clip(plane + 128, 0, 255).astype(np.uint8))


def turned(jpeg: bytes) -> bytes:
    """Return the same file with an EXIF orientation of 6: to be rotated by 90
    degrees."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = exif.tobytes()
    return b''.join(
        [jpeg[:2], b'\xff\xe1', (len(content) + 2).to_bytes(2), content, jpeg[2:]]
    )
