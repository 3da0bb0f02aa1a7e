import struct

import pytest
from PIL import Image, ImageCms

from asgilook.imaging import color
from tests import samples

Pixel = int | tuple[int, ...]
Primaries = tuple[tuple[float, ...], ...]

WHITE, RED = (255, 255, 255), (255, 0, 0)


def flat(image: Image.Image, icc: bytes = b'') -> Image.Image:
    return color.flatten(image, icc)


def column(image: Image.Image, x: int) -> float:
    """Return a pixel of a ramp."""
    value = image.getpixel((x, 8))
    assert isinstance(value, int | float)
    return value


def channels(image: Image.Image, x: int = 0) -> tuple[int, ...]:
    """Return a pixel of the first row of a color image."""
    value = image.getpixel((x, 0))
    assert isinstance(value, tuple)
    return value


# -- Depth --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('mode', 'top'),
    [
        *(('I;16', 65535), ('I;16B', 65535), ('I', 65535), ('I', 2**31 - 1)),
        *(('F', 1), ('F', 255), ('F', 65535), ('F', 1e9)),
    ],
)
def test_long_samples_are_scaled(mode: str, top: float) -> None:
    image = flat(samples.ramp(mode, top))
    assert image.mode == 'L'
    assert all(abs(column(image, x) - x) <= 1 for x in range(256))


@pytest.mark.parametrize('mode', ['I;16', 'I'])
def test_dark_image_stays_dark(mode: str) -> None:
    image = flat(samples.ramp(mode, 4096))
    assert abs(column(image, 255) - 16) <= 1


def test_negative_samples_are_stretched() -> None:
    image = Image.new('I', (2, 1))
    image.putpixel((0, 0), -1000)
    image.putpixel((1, 0), 1000)
    assert flat(image).tobytes() == b'\0\xff'


@pytest.mark.parametrize('value', [0, 3, -3])
def test_uniform_image_of_long_samples(value: int) -> None:
    assert flat(Image.new('F', (4, 4), value)).mode == 'L'


def test_infinite_values() -> None:
    image = Image.new('F', (2, 1), float('inf'))
    image.putpixel((0, 0), 0)
    assert flat(image).getpixel((0, 0)) == 0


@pytest.mark.parametrize('mode', ['1', 'L'])
def test_gray_stays_one_channel(mode: str) -> None:
    image = samples.ramp().convert(mode)
    assert flat(image).mode == 'L'
    assert flat(image).tobytes() == image.convert('L').tobytes()


def test_gray_palette_becomes_one_channel() -> None:
    image = samples.ramp().convert('P')
    image.putpalette([255 - x // 3 for x in range(768)])
    assert flat(image).mode == 'L'
    assert column(flat(image), 10) == 245


# -- Transparency -------------------------------------------------------------------


@pytest.mark.parametrize('mode', ['RGBA', 'RGBa', 'PA'])
def test_transparent_color_becomes_white(mode: str) -> None:
    image = Image.new('RGBA', (3, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    if mode != 'PA':
        image.putpixel((2, 0), (255, 0, 0, 128))
    result = flat(image.convert(mode))
    assert result.mode == 'RGB'
    assert result.getpixel((0, 0)) == WHITE
    assert result.getpixel((1, 0)) == RED
    if mode != 'PA':
        assert all(
            abs(a - b) <= 1
            for a, b in zip(channels(result, 2), (255, 127, 127), strict=True)
        )


@pytest.mark.parametrize('mode', ['LA', 'La'])
def test_transparent_gray_becomes_white(mode: str) -> None:
    image = Image.new('LA', (3, 1), (0, 0))
    image.putpixel((1, 0), (0, 255))
    image.putpixel((2, 0), (0, 128))
    result = flat(image.convert(mode))
    assert result.mode == 'L'
    assert list(result.tobytes()) == [255, 0, 127]


@pytest.mark.parametrize(
    ('transparency', 'expected'),
    [
        (0, [WHITE, (0, 255, 0)]),
        (b'\0\xff', [WHITE, (0, 255, 0)]),
        (b'\xff\0', [RED, WHITE]),
        (b'\0', [WHITE, (0, 255, 0)]),
    ],
)
def test_transparency_of_palette(
    transparency: int | bytes, expected: list[Pixel]
) -> None:
    image = Image.new('P', (2, 1))
    image.putpalette([*RED, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.info['transparency'] = transparency
    result = flat(image)
    assert [result.getpixel((x, 0)) for x in range(2)] == expected


@pytest.mark.parametrize(
    ('mode', 'key', 'expected'),
    [
        ('L', 7, [255, 8]),
        ('I;16', 1799, [255, 8]),
        ('1', 0, [255, 255]),
        ('RGB', (7, 7, 7), [WHITE, (8, 8, 8)]),
    ],
)
def test_transparent_color_key(mode: str, key: Pixel, expected: list[Pixel]) -> None:
    keys: dict[str, Pixel] = {'I;16': 1799, 'RGB': (7, 7, 7)}
    others: dict[str, Pixel] = {'I;16': 2056, 'RGB': (8, 8, 8), '1': 255}
    image = Image.new(mode, (2, 1), keys.get(mode, 7))
    image.putpixel((1, 0), others.get(mode, 8))
    if mode == '1':
        image.putpixel((0, 0), 0)
    image.info['transparency'] = key
    result = flat(image)
    assert [result.getpixel((x, 0)) for x in range(2)] == expected


# -- Profiles -----------------------------------------------------------------------


def curve(value: float) -> float:
    """Return the sRGB byte of a linear value (IEC 61966-2-1)."""
    value = min(1, max(0, value))
    low = value <= 0.0031308
    return 255 * (12.92 * value if low else 1.055 * value ** (1 / 2.4) - 0.055)


# From XYZ, adapted to D50, to linear sRGB.
TO_SRGB = (
    (3.13386, -1.61687, -0.49061),
    (-0.97877, 1.91614, 0.03345),
    (0.07194, -0.22899, 1.40524),
)


def srgb(rgb: tuple[int, ...], primaries: Primaries, gamma: float) -> list[float]:
    """Return a color of three primaries and a gamma in sRGB."""
    linear = [(value / 255) ** gamma for value in rgb]
    xyz = [
        sum(v * p[i] for v, p in zip(linear, primaries, strict=True)) for i in range(3)
    ]
    return [curve(sum(a * b for a, b in zip(row, xyz, strict=True))) for row in TO_SRGB]


@pytest.mark.parametrize('primaries', [samples.ADOBE_RGB, samples.DISPLAY_P3])
@pytest.mark.parametrize(
    'rgb',
    [(255, 255, 255), (128, 128, 128), (150, 100, 100), (60, 120, 90), (9, 9, 99)],
)
def test_rgb_profile(primaries: Primaries, rgb: tuple[int, ...]) -> None:
    image = flat(Image.new('RGB', (4, 4), rgb), samples.profile(primaries, 2.2))
    expected = srgb(rgb, primaries, 2.2)
    assert all(abs(a - b) <= 2 for a, b in zip(channels(image), expected, strict=True))


@pytest.mark.parametrize('gamma', [1.0, 1.8, 2.2])
def test_gray_profile(gamma: float) -> None:
    image = flat(samples.ramp(), samples.gray_profile(gamma))
    assert image.mode == 'L'
    assert all(
        abs(column(image, x) - curve((x / 255) ** gamma)) <= 2 for x in range(256)
    )


@pytest.mark.parametrize('gamma', [1.0, 1.8, 2.2])
@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'LA'])
def test_rgb_profile_of_gray(mode: str, gamma: float) -> None:
    image = samples.ramp().convert(mode)
    result = flat(image.copy(), samples.profile(samples.ADOBE_RGB, gamma))
    assert result.mode == 'L'
    gray = image.convert('L')
    assert all(
        abs(column(result, x) - curve((column(gray, x) / 255) ** gamma)) <= 2
        for x in range(256)
    )


def test_rgb_profile_that_tints_gray() -> None:
    icc = samples.profile(samples.ADOBE_RGB, 2.2)
    red_is_linear = icc.replace(struct.pack('>IH', 1, 563), b'\0\0\0\1\1\0', 1)
    color_image = flat(samples.ramp().convert('RGB'), red_is_linear)
    tinted = flat(samples.ramp(), red_is_linear)
    assert tinted.mode == 'RGB'
    for x in range(256):
        pairs = zip(channels(tinted, x), channels(color_image, x), strict=True)
        assert all(abs(a - b) <= 2 for a, b in pairs)
    red, green, _ = channels(tinted, 128)
    assert red - green > 40


def test_gray_profile_of_color_is_ignored() -> None:
    image = Image.new('RGB', (4, 4), (64, 64, 64))
    assert flat(image, samples.gray_profile(1.0)).getpixel((0, 0)) == (64, 64, 64)


def test_cmyk_profile() -> None:
    icc = samples.cmyk_profile()
    for inks, lab in (((255, 0, 0, 0), (60, -40, -50)), ((0, 0, 255, 0), (90, -5, 90))):
        pixel = Image.new('CMYK', (1, 1), inks)
        result = channels(flat(pixel, icc))
        packed = bytes((round(lab[0] * 2.55), lab[1] % 256, lab[2] % 256))
        color_of_lab = Image.frombytes('LAB', (1, 1), packed)
        expected = channels(color_of_lab.convert('RGB'))
        assert all(abs(a - b) <= 8 for a, b in zip(result, expected, strict=True))


def test_cmyk_without_profile() -> None:
    image = flat(Image.new('CMYK', (1, 1), (255, 0, 0, 0)))
    assert image.getpixel((0, 0)) == (0, 255, 255)


def test_transparent_image_with_profile() -> None:
    icc = samples.profile(samples.ADOBE_RGB, 2.2)
    image = Image.new('RGBA', (2, 1), (150, 100, 100, 255))
    image.putpixel((1, 0), (150, 100, 100, 0))
    result = flat(image, icc)
    assert result.getpixel((1, 0)) == WHITE
    assert abs(channels(result)[0] - 165) <= 2


@pytest.mark.parametrize(
    ('icc', 'mode', 'same'),
    [
        (samples.SRGB, 'RGB', True),
        (samples.profile(samples.ADOBE_RGB), 'RGB', False),
        (samples.profile(samples.DISPLAY_P3), 'RGB', False),
        (samples.profile(samples.DISPLAY_P3, 1.0), 'L', False),
        (samples.gray_profile(2.2), 'L', False),
        (samples.gray_profile(2.2), 'RGB', True),
        (samples.SRGB, 'L', True),
        (samples.cmyk_profile(), 'CMYK', False),
        (b'', 'RGB', True),
    ],
)
def test_srgb_is_recognized(icc: bytes, mode: str, same: bool) -> None:
    assert color.is_srgb(icc, mode) is same


@pytest.mark.parametrize(
    'icc',
    [
        b'garbage',
        bytes(200),
        samples.profile(samples.ADOBE_RGB)[:200],
        samples.gray_profile(1.0),
        samples.cmyk_profile(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile('XYZ')).tobytes(),
        samples.SRGB.replace(struct.pack('>I', 0x02400000)[:1], b'\x09', 1),
    ],
)
def test_unusable_profile_is_ignored(icc: bytes) -> None:
    image = samples.soft(16, 16)
    assert flat(image.copy(), icc).tobytes() == image.tobytes()
