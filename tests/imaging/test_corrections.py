import io
import struct
import zlib

import pytest
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

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


# -- TIFF ---------------------------------------------------------------------------

ENDS = [0, 1 / 3, 1]


def tiff(
    order: str,
    bits: int,
    photometric: int,
    *planes: bytes,
    sample_format: int = 1,
    is_compressed: bool = False,
) -> bytes:
    """Return a TIFF of planes, each of them a strip; `order` is that of `struct`."""
    strips = [zlib.compress(plane) if is_compressed else plane for plane in planes]
    tags = ImageFileDirectory_v2(prefix=b'II' if order == '<' else b'MM')
    tags[256], tags[257], tags[278] = SIDE, SIDE, SIDE
    tags[258], tags[277] = (bits,) * len(planes), len(planes)
    tags[259], tags[262] = 8 if is_compressed else 1, photometric
    tags[279] = tuple(map(len, strips))
    tags[284], tags[339] = 1 if len(planes) == 1 else 2, sample_format
    tags.tagtype[273] = TiffTags.LONG
    # Pillow adds the end of the directory.
    tags[273] = tuple(len(b''.join(strips[:n])) for n in range(len(strips)))
    head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8)
    return head + tags.tobytes(8) + b''.join(strips)


def stripes(code: str, *values: float) -> bytes:
    """Return four columns of each value, and of the last one as many as are left."""
    row = [values[min(x // 4, len(values) - 1)] for x in range(SIDE)]
    if code[1] != 'f':
        row = [round(value) for value in row]
    return struct.pack(f'{code[0]}{SIDE}{code[1]}', *row) * SIDE


def grays(image: Image.Image) -> list[int]:
    """Return the middle of the first, the second and the last stripe."""
    assert image.mode == 'L'
    return [image.tobytes()[SIDE * 8 + x] for x in (1, 6, 14)]


def are_close(values: list[int], expected: list[int]) -> bool:
    return all(abs(a - b) <= 3 for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize('is_compressed', [False, True])
@pytest.mark.parametrize(
    ('photometric', 'expected'), [(0, [255, 170, 0]), (1, [0, 85, 255])]
)
@pytest.mark.parametrize(
    ('code', 'bits', 'sample_format', 'top'),
    [
        ('<B', 8, 1, 255),
        ('>B', 8, 1, 255),
        ('<H', 16, 1, 65535),
        ('<f', 32, 3, 1),
        ('>f', 32, 3, 255),
        ('<f', 32, 3, 1e9),
    ],
)
def test_tiff_where_white_is_zero(
    code: str,
    bits: int,
    sample_format: int,
    top: float,
    photometric: int,
    expected: list[int],
    is_compressed: bool,
) -> None:
    data = tiff(
        code[0],
        bits,
        photometric,
        stripes(code, *(end * top for end in ENDS)),
        sample_format=sample_format,
        is_compressed=is_compressed,
    )
    assert are_close(grays(store(data)), expected)


@pytest.mark.parametrize('is_compressed', [False, True])
@pytest.mark.parametrize(
    ('code', 'bits', 'sample_format', 'low', 'high'),
    [
        ('>H', 16, 1, 0, 2**16 - 1),
        ('<h', 16, 2, -3000, 3000),
        ('>h', 16, 2, -3000, 3000),
        ('<i', 32, 2, -(2**31), 2**31 - 1),
        ('>i', 32, 2, -(2**31), 2**31 - 1),
        ('<I', 32, 1, 0, 65535),
        ('<I', 32, 1, 0, 2**31 - 1),
        ('<I', 32, 1, 0, 2**32 - 1),
    ],
)
def test_tiff_of_long_samples(
    code: str, bits: int, sample_format: int, low: int, high: int, is_compressed: bool
) -> None:
    data = tiff(
        code[0],
        bits,
        1,
        stripes(code, *(low + end * (high - low) for end in ENDS)),
        sample_format=sample_format,
        is_compressed=is_compressed,
    )
    assert are_close(grays(store(data)), [0, 85, 255])


@pytest.mark.parametrize('is_compressed', [False, True])
def test_tiff_of_12_bits(is_compressed: bool) -> None:
    row = b'\0\0\0' * 2 + b'\x55\x55\x55' * 2 + b'\xff\xff\xff' * 4
    data = tiff('<', 12, 1, row * SIDE, is_compressed=is_compressed)
    assert are_close(grays(store(data)), [0, 85, 255])


@pytest.mark.parametrize('is_compressed', [False, True])
@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize(
    ('photometric', 'samples_'),
    [(2, (1, 0.5, 0)), (2, (1, 0.5, 0, 1)), (5, (0, 0.5, 1, 0))],
)
@pytest.mark.parametrize(('code', 'bits'), [('B', 8), ('H', 16)])
def test_tiff_of_planes(
    code: str,
    bits: int,
    photometric: int,
    samples_: tuple[float, ...],
    order: str,
    is_compressed: bool,
) -> None:
    top = 2**bits - 1
    planes = [stripes(order + code, sample * top) for sample in samples_]
    data = tiff(order, bits, photometric, *planes, is_compressed=is_compressed)
    assert shows(store(data), (255, 127, 0), 8, 8)


# -- GIF and WebP -------------------------------------------------------------------


def gif(mode: str, *, transparency: int | None = None, inner: int = 8) -> bytes:
    """Return a GIF of 16 x 16 pixels with a frame of `inner` x `inner` at (4, 4)."""
    frame = Image.new('P', (inner, inner), 1)
    frame.putpalette([0, 0, 0, 90, 90, 90] if mode == 'L' else [0, 0, 0, 200, 0, 0])
    options = {} if transparency is None else {'transparency': transparency}
    data = samples.encode(frame, 'GIF', optimize=False, **options)
    at = data.index(b',' + struct.pack('<HHHH', 0, 0, inner, inner))
    moved = b',' + struct.pack('<HHHH', 4, 4, inner, inner)
    screen = struct.pack('<HH', SIDE, SIDE)
    return data[:6] + screen + data[10:at] + moved + data[at + 9 :]


@pytest.mark.parametrize('transparency', [None, 0])
@pytest.mark.parametrize(('mode', 'inside'), [('P', (200, 0, 0)), ('L', (90, 90, 90))])
def test_gif_with_a_small_first_frame(
    mode: str, inside: tuple[int, ...], transparency: int | None
) -> None:
    stored = store(gif(mode, transparency=transparency)).convert('RGB')
    assert stored.size == (SIDE, SIDE)
    assert all(shows(stored, inside, x, x) for x in (5, 8, 10))
    assert all(shows(stored, (255, 255, 255), x, x) for x in (0, 2, 14))


def test_gif_with_a_frame_that_exceeds_the_screen() -> None:
    stored = store(gif('P', inner=20)).convert('RGB')
    assert stored.size == (24, 24)
    assert shows(stored, (200, 0, 0), 8, 8)
    assert shows(stored, (255, 255, 255), 1, 1)


def webp(side: int, **options: bool) -> bytes:
    """Return an animation without alpha, with a first frame of `side` pixels."""
    frame = samples.encode(
        Image.new('RGB', (side, side), (200, 0, 0)), 'WEBP', **options
    )
    header = b''.join(struct.pack('<I', value - 1)[:3] for value in (side, side))
    body = b'WEBP' + b''.join(
        name + struct.pack('<I', len(content)) + content
        for name, content in (
            (b'VP8X', b'\x02\0\0\0' + 2 * struct.pack('<I', SIDE - 1)[:3]),
            (b'ANIM', bytes(6)),
            (b'ANMF', bytes(6) + header + bytes(4) + frame[12:]),
        )
    )
    return b'RIFF' + struct.pack('<I', len(body)) + body


@pytest.mark.parametrize('lossless', [False, True])
@pytest.mark.parametrize('side', [8, SIDE])
def test_webp_with_a_small_first_frame(side: int, lossless: bool) -> None:
    stored = store(webp(side, lossless=lossless))
    assert shows(stored, (200, 0, 0), 3, 3)
    assert shows(stored, (200, 0, 0) if side == SIDE else (255, 255, 255), 14, 14)
