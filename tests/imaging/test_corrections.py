import io
import struct
import zlib

import pytest
from PIL import Image

from asgilook.imaging import transform
from tests import samples
from tests.samples import chunk

SIDE = 16


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    transform.configure(1_000_000)


def store(data: bytes) -> Image.Image:
    """Return the pixels of a stored upload."""
    target = io.BytesIO()
    transform.to_jpeg(
        io.BytesIO(data),
        target,
        max_pixels=1_000_000,
        quality=98,
        min_thumb_size=64,
        check_deadline=lambda: None,
    )
    return samples.decode(target.getvalue())


def shows(image: Image.Image, color: int | tuple[int, ...], x: int, y: int) -> bool:
    """Return whether a pixel is within what JPEG changes."""
    expected = Image.new(image.mode, (1, 1), color).tobytes()
    pixel = image.crop((x, y, x + 1, y + 1)).tobytes()
    return all(abs(a - b) <= 3 for a, b in zip(pixel, expected, strict=True))


# -- PNG ----------------------------------------------------------------------------


@pytest.mark.parametrize(('icc', 'gray'), [(b'', 64), (samples.gray_profile(1.0), 137)])
@pytest.mark.parametrize('alpha', [0, 255])
def test_png_of_gray_and_alpha_in_16_bits(icc: bytes, gray: int, alpha: int) -> None:
    pixel = struct.pack('>HH', 64 * 257, alpha * 257)
    parts = (
        (b'IHDR', struct.pack('>IIBBBBB', SIDE, SIDE, 16, 4, 0, 0, 0)),
        *([(b'iCCP', b'gray\0\0' + zlib.compress(icc))] if icc else []),
        (b'IDAT', zlib.compress((b'\0' + pixel * SIDE) * SIDE)),
        (b'IEND', b''),
    )
    data = b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)
    stored = store(data)
    assert stored.mode == 'L'
    assert shows(stored, gray if alpha else 255, 8, 8)


@pytest.mark.parametrize('format_', ['PNG', 'TIFF'])
def test_gray_palette_with_rgb_profile(format_: str) -> None:
    image = Image.new('RGB', (SIDE, SIDE), (64, 64, 64)).quantize(4)
    icc = samples.profile(samples.ADOBE_RGB, 1.0)
    assert shows(store(samples.encode(image, format_, icc_profile=icc)), 137, 8, 8)


@pytest.mark.parametrize('orientation', [1, 6])
def test_gray_jpeg_with_rgb_profile(orientation: int) -> None:
    image = Image.new('L', (SIDE, SIDE), 64)
    icc = samples.profile(samples.ADOBE_RGB, 1.0)
    stored = store(samples.camera(image, orientation, icc_profile=icc))
    assert stored.mode == 'L'
    assert shows(stored, 137, 8, 8)


# -- BMP ----------------------------------------------------------------------------


def bmp(*pixels: tuple[int, int, int, int]) -> bytes:
    """Return a BMP (version 5) with an alpha mask, and a row of each BGRA pixel."""
    masks = 0xFF0000, 0xFF00, 0xFF, 0xFF000000
    size = SIDE, len(pixels), 1, 32, 3, 4 * SIDE * len(pixels)
    header = struct.pack('<IiiHHIIiiII4I', 124, *size, 0, 0, 0, 0, *masks)
    file_header = struct.pack('<2sIII', b'BM', 138 + size[-1], 0, 138)
    rows = b''.join(bytes(pixel) * SIDE for pixel in reversed(pixels))
    return file_header + header.ljust(124, b'\0') + rows


def test_bmp_that_is_transparent_everywhere_is_opaque() -> None:
    stored = store(bmp(*[(30, 20, 10, 0)] * SIDE))
    assert shows(stored, (10, 20, 30), 8, 8)


def test_bmp_with_alpha() -> None:
    stored = store(bmp(*[(30, 20, 10, 0)] * 8, *[(30, 20, 10, 255)] * 8))
    assert shows(stored, (255, 255, 255), 8, 2)
    assert shows(stored, (10, 20, 30), 8, 13)
