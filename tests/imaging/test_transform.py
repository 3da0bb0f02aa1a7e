import errno
import io
import itertools
import math
import os
import random
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from PIL import AvifImagePlugin, Image, ImageChops, ImageStat
from PIL.JpegImagePlugin import JpegImageFile

from asgilook.errors import ImageDamaged, UnsupportedFormat, UploadTooLarge
from asgilook.imaging import reduction, transform
from asgilook.models import CheckDeadline, Size
from tests import bombs, samples

Options = dict[str, Any]

PIXELS = 1_000_000
TURNS = {
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_90] * 2,
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90],
    6: [Image.Transpose.ROTATE_90] * 3,
    7: [Image.Transpose.FLIP_LEFT_RIGHT] + [Image.Transpose.ROTATE_90] * 3,
    8: [Image.Transpose.ROTATE_90],
}


class TimeUp(Exception):
    """Raised by a deadline check."""


class Late:
    """A deadline check that raises after a number of calls."""

    def __init__(self, calls: int, error: type[BaseException] = TimeUp) -> None:
        self.calls = calls
        self.error = error

    def __call__(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise self.error('late')


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    transform.configure(PIXELS)


def nothing() -> None:
    pass


def store(
    data: bytes,
    max_pixels: int = PIXELS,
    quality: int = 85,
    check_deadline: CheckDeadline = nothing,
) -> bytes:
    """Return the stored bytes of an upload, after checking their size."""
    target = io.BytesIO()
    upload = transform.to_jpeg(
        io.BytesIO(data),
        target,
        max_pixels=max_pixels,
        quality=quality,
        min_thumb_size=64,
        check_deadline=check_deadline,
    )
    stored = target.getvalue()
    assert samples.decode(stored).size == upload.size
    return stored


def thumb(
    data: bytes,
    size: Size,
    quality: int = 85,
    check_deadline: CheckDeadline = nothing,
) -> bytes:
    return transform.thumbnail(
        data, size, quality=quality, check_deadline=check_deadline
    )


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the largest mean difference of a channel, of 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def as_jpeg(image: Image.Image, quality: int = 95) -> Image.Image:
    """Return an image after a round trip through JPEG."""
    return samples.decode(samples.encode(image, 'JPEG', quality=quality))


def decode_jpeg(data: bytes) -> JpegImageFile:
    return samples.decode_as(JpegImageFile, data)


# -- JPEG, kept ---------------------------------------------------------------------


@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_camera_file_keeps_its_pixels(mode: str) -> None:
    image = samples.scene(161, 97).convert(mode)
    data = samples.camera(image, icc_profile=samples.SRGB if mode == 'RGB' else None)
    stored = store(data)
    assert samples.decode(stored).tobytes() == samples.decode(data).tobytes()
    assert samples.decode(stored).mode == mode


@pytest.mark.parametrize('orientation', [1, 3, 6])
@pytest.mark.parametrize('options', [{}, {'progressive': True}])
def test_no_metadata_remains(orientation: int, options: Options) -> None:
    stored = store(samples.camera(samples.scene(96, 64), orientation, **options))
    for secret in (samples.GPS, samples.XMP, samples.COMMENT, b'Exif', b'ICC', b'film'):
        assert secret not in stored
    left = set(samples.decode(stored).info)
    assert left == {'jfif', 'jfif_version', 'jfif_unit', 'jfif_density'}
    assert stored.endswith(b'\xff\xd9')


@pytest.mark.parametrize(
    ('options', 'orientation'),
    [
        ({'quality': 93, 'subsampling': 0}, 6),
        ({'quality': 60, 'subsampling': 1}, 3),
        ({'quality': 75, 'subsampling': 2, 'progressive': True}, 1),
        ({'qtables': [list(range(1, 65))], 'subsampling': 2}, 8),
        ({'qtables': [[9] * 64, [8] * 64, [7] * 64], 'subsampling': 0}, 2),
    ],
)
def test_changed_jpeg_keeps_tables_and_subsampling(
    options: Options, orientation: int
) -> None:
    data = samples.camera(samples.scene(96, 64), orientation, **options)
    before, after = decode_jpeg(data), decode_jpeg(store(data))
    assert after.quantization == before.quantization
    assert [each[1:3] for each in after.layer] == [each[1:3] for each in before.layer]


def test_turned_gray_jpeg_keeps_its_table() -> None:
    data = samples.camera(samples.scene(96, 64).convert('L'), 6, icc_profile=None)
    before, after = decode_jpeg(data), decode_jpeg(store(data))
    assert after.mode == 'L'
    assert after.quantization == before.quantization


def test_progressive_jpeg_becomes_baseline() -> None:
    data = samples.photo(96, 64, progressive=True)
    stored = samples.decode(store(data))
    assert 'progressive' not in stored.info
    assert difference(stored, samples.decode(data)) < 5


def test_other_subsampling_becomes_none() -> None:
    data = samples.photo(96, 64, subsampling=1, progressive=True)
    at = data.index(b'\xff\xc2')
    upright = data[: at + 11] + b'\x12' + data[at + 12 :]  # 4:4:0
    stored = decode_jpeg(store(upright))
    assert [each[1:3] for each in stored.layer] == [(1, 1)] * 3


def test_mpo_becomes_its_first_image() -> None:
    assert samples.decode(samples.mpo(96, 64)).format == 'MPO'
    stored = samples.decode(store(samples.mpo(96, 64)))
    assert difference(stored, as_jpeg(samples.scene(96, 64), 75)) < 5
    assert stored.format == 'JPEG'


# -- Orientation --------------------------------------------------------------------


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image as `orientation` describes it (Exif 2.32)."""
    for turn in TURNS.get(orientation, []):
        image = image.transpose(turn)
    return image


@pytest.mark.parametrize('shape', [(64, 32), (32, 64)])
@pytest.mark.parametrize('orientation', range(10))
@pytest.mark.parametrize('format_', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_orientation(format_: str, orientation: int, shape: Size) -> None:
    options = {'lossless': True} if format_ == 'WEBP' else {}
    exif = samples.exif(orientation)
    data = samples.encode(samples.corners(*shape), format_, exif=exif, **options)
    expected = turned(samples.corners(*shape), orientation)
    stored = store(data, quality=95)
    assert samples.decode(stored).size == expected.size
    assert difference(samples.decode(stored), as_jpeg(expected)) < 8
    half = expected.width // 2, expected.height // 2
    small = samples.decode(thumb(stored, half, quality=95))
    assert difference(small, as_jpeg(expected.resize(half))) < 12


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_of_avif(orientation: int) -> None:
    exif = samples.exif(orientation)
    data = samples.encode(samples.corners(64, 32), 'AVIF', exif=exif)
    expected = turned(samples.corners(64, 32), orientation)
    stored = samples.decode(store(data, quality=95))
    assert difference(stored, as_jpeg(expected)) < 8


# -- Colors and modes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ('format_', 'mode'),
    [
        *itertools.product(['PNG'], ['1', 'L', 'LA', 'P', 'RGB', 'RGBA']),
        *itertools.product(['GIF'], ['1', 'L', 'P', 'RGB']),
        *itertools.product(['WEBP', 'AVIF'], ['L', 'RGB', 'RGBA']),
        *itertools.product(['BMP'], ['1', 'L', 'P', 'RGB', 'RGBA']),
        *itertools.product(['TIFF'], ['1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA']),
        *itertools.product(['TIFF'], ['CMYK', 'YCbCr', 'LAB']),
        *itertools.product(['JPEG'], ['L', 'RGB', 'CMYK']),
    ],
)
def test_mode(format_: str, mode: str) -> None:
    image = samples.soft(96, 64)
    if mode == 'PA':
        image = image.convert('P').convert('PA')
    elif mode == 'LAB':
        image = Image.frombytes('LAB', (96, 64), bytes([150, 128, 128]) * 96 * 64)
    else:
        image = image.convert(mode)
    stored = samples.decode(store(samples.encode(image, format_), quality=95))
    gray = mode in ('1', 'L', 'LA') and format_ != 'WEBP'
    assert stored.mode == ('L' if gray else 'RGB')
    assert difference(stored, as_jpeg(image.convert(stored.mode))) < 6


@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_adobe_deflate', 'jpeg'])
@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
def test_compressed_tiff(mode: str, compression: str) -> None:
    image = samples.soft(96, 64).convert(mode)
    data = samples.encode(image, 'TIFF', compression=compression)
    stored = samples.decode(store(data, quality=95))
    assert difference(stored, as_jpeg(image.convert(stored.mode))) < 4


@pytest.mark.parametrize('format_', ['GIF', 'PNG', 'WEBP'])
def test_animation_becomes_its_first_frame(format_: str) -> None:
    stored = samples.decode(store(samples.animation(format_), quality=95))
    assert stored.size == (48, 32)
    assert difference(stored, Image.new('RGB', (48, 32), 'lime')) < 3


@pytest.mark.parametrize('orientation', [1, 6])
def test_wide_gamut_is_converted(orientation: int) -> None:
    profile = samples.profile(samples.ADOBE_RGB, 2.2)
    image = Image.new('RGB', (32, 16), (150, 100, 100))
    data = samples.camera(
        image, orientation, icc_profile=profile, quality=95, subsampling=0
    )
    stored = samples.decode(store(data))
    # Computed by hand: gamma 2.2, the two matrices, the curve of sRGB.
    assert difference(stored, Image.new('RGB', stored.size, (165, 100, 100))) < 2.5


# -- Rejections ---------------------------------------------------------------------


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'hello',
        b'BMW is no picture, is it? ' * 3,
        b'%PDF-1.7\n',
        b'%!PS-Adobe-3.0 EPSF-3.0\n',
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        samples.encode(Image.new('RGB', (8, 8)), 'PPM'),
        samples.encode(Image.new('RGB', (8, 8)), 'ICO'),
        samples.encode(Image.new('RGB', (8, 8)), 'JPEG2000'),
        samples.encode(Image.new('RGB', (8, 8)), 'TGA'),
    ],
)
def test_unsupported_format(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match='not a JPEG, PNG'):
        store(data)


@pytest.mark.parametrize('brand', [b'heic', b'mif1'])
def test_heic_is_named(brand: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match=r'HEIC.*JPEG'):
        store(b'\0\0\0\x18ftyp' + brand + b'\0\0\0\0mif1heic')


OPTIONS: dict[str, Options] = {
    'JPEG': {},
    'PNG': {},
    'GIF': {},
    'WEBP': {'lossless': True},
    'AVIF': {},
    'BMP': {},
    'TIFF': {'compression': 'tiff_lzw'},
}
SOUND = {
    name: samples.encode(samples.scene(96, 64), name, **options)
    for name, options in OPTIONS.items()
}


@pytest.mark.parametrize('name', SOUND)
def test_format_of_an_upload(name: str) -> None:
    source, target = io.BytesIO(SOUND[name]), io.BytesIO()
    upload = transform.to_jpeg(
        source,
        target,
        max_pixels=PIXELS,
        quality=85,
        min_thumb_size=64,
        check_deadline=nothing,
    )
    assert upload.format == name


@pytest.mark.parametrize('name', SOUND)
@pytest.mark.parametrize('part', [0.1, 0.5, 0.9])
def test_truncated(name: str, part: float) -> None:
    data = SOUND[name]
    with pytest.raises(ImageDamaged, match='damaged'):
        store(data[: int(len(data) * part)])


def test_truncated_png_without_iend() -> None:
    with pytest.raises(ImageDamaged, match='damaged'):
        store(SOUND['PNG'][:-12])


def test_truncated_jpeg_with_an_end() -> None:
    data = SOUND['JPEG']
    for orientation in (1, 6):
        whole = samples.camera(samples.scene(96, 64), orientation)
        cut = whole[: whole.index(b'\xff\xda') + len(data) // 2] + b'\xff\xd9'
        with pytest.raises(ImageDamaged):
            store(cut)


@pytest.mark.parametrize('name', SOUND)
def test_flipped_bytes_raise_known_errors(name: str) -> None:
    rng = random.Random(name)
    for _ in range(150):
        data = bytearray(SOUND[name])
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            stored = store(bytes(data))
        except (ImageDamaged, UnsupportedFormat, UploadTooLarge):
            continue
        samples.decode(stored)


@pytest.mark.parametrize('name', SOUND)
def test_pixel_limit_is_exact(name: str) -> None:
    store(SOUND[name], max_pixels=96 * 64)
    with pytest.raises(UploadTooLarge, match='96 x 64'):
        store(SOUND[name], max_pixels=96 * 64 - 1)


@pytest.mark.parametrize('name', SOUND)
@pytest.mark.parametrize('limit', [96 * 64, 96 * 64 + 1])
def test_pixel_limit_of_pillow_is_never_lower(name: str, limit: int) -> None:
    transform.configure(limit)
    store(SOUND[name], max_pixels=limit)


@pytest.mark.parametrize('format_', ['PNG', 'GIF', 'WEBP'])
def test_pixel_limit_of_pillow_if_it_is_odd(format_: str) -> None:
    transform.configure(9 * 9)
    store(samples.encode(Image.new('L', (9, 9)), format_), max_pixels=9 * 9)


def test_avif_is_decoded_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the pool, which limits the number of threads of the service."""
    data = samples.encode(samples.soft(96, 64), 'AVIF')
    monkeypatch.setattr(AvifImagePlugin, 'DEFAULT_MAX_THREADS', 4)
    transform.configure(PIXELS)
    threads = set(os.listdir('/proc/self/task'))
    image = samples.decode(data)  # a decoder keeps its threads
    assert set(os.listdir('/proc/self/task')) <= threads
    image.close()


@pytest.mark.parametrize('shape', [(65_501, 1), (1, 65_501)])
def test_long_side(shape: Size) -> None:
    with pytest.raises(ImageDamaged, match='65500'):
        store(samples.encode(Image.new('L', shape), 'PNG'))


def test_longest_side() -> None:
    data = samples.encode(Image.new('L', (65_500, 1)), 'PNG')
    assert samples.decode(store(data)).size == (65_500, 1)


@pytest.mark.parametrize('shape', [(0, 9), (9, 0), (0, 0)])
@pytest.mark.parametrize('options', [{}, {'progressive': True}])
def test_no_pixels(shape: Size, options: Options) -> None:
    with pytest.raises(ImageDamaged):
        store(bombs.resized(samples.photo(9, 9, **options), *shape))


@pytest.mark.parametrize(
    'bomb',
    [bombs.gif_pixels, bombs.webp_pixels, bombs.png_pixels, bombs.jpeg_pixels],
)
def test_pixel_bomb(bomb: Callable[[], bytes]) -> None:
    with pytest.raises(UploadTooLarge, match='pixels'):
        store(bomb())


def test_pixel_bomb_within_the_limit_has_no_data() -> None:
    with pytest.raises(ImageDamaged):
        store(bombs.jpeg_pixels(1000))


def test_many_scans() -> None:
    assert samples.decode(store(bombs.scans(100, side=64))).size == (64, 64)
    with pytest.raises(ImageDamaged, match='100 scans'):
        store(bombs.scans(101, side=64))


def test_tiles_much_larger_than_the_image() -> None:
    with pytest.raises(ImageDamaged, match='tiles'):
        store(bombs.tiles(8, 8, 5000))


@pytest.mark.parametrize(
    'bomb',
    [
        bombs.chunks(20_000),
        bombs.chunks(20_000, b'IDAT'),
        bombs.comments(20_000),
        bombs.frames(20_000),
        bombs.blocks(20_000),
    ],
)
def test_small_parts_take_no_more_than_one_check_each(bomb: bytes) -> None:
    late = Late(25_000)
    assert samples.decode(store(bomb, check_deadline=late)).size == (8, 8)


# -- Time ---------------------------------------------------------------------------


@pytest.mark.parametrize('name', SOUND)
@pytest.mark.parametrize(
    'error', [TimeUp, OSError, KeyError, SyntaxError, KeyboardInterrupt]
)
def test_exception_of_deadline_check_is_raised_unchanged(
    name: str, error: type[BaseException]
) -> None:
    counter = Late(1_000_000)
    store(SOUND[name], check_deadline=counter)
    calls = 1_000_000 - counter.calls
    assert calls > 2
    for call in range(calls):
        with pytest.raises(error, match='late'):
            store(SOUND[name], check_deadline=Late(call, error))


def test_thumbnail_checks_deadline_before_it_is_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reduced = []
    original = reduction.reduce

    def reduce(*args: Any, **options: Any) -> Image.Image:
        reduced.append(original(*args, **options))
        return reduced[0]

    def check_deadline() -> None:
        if reduced:
            raise TimeUp

    monkeypatch.setattr(reduction, 'reduce', reduce)
    with pytest.raises(TimeUp):
        thumb(samples.photo(128, 128), (64, 64), check_deadline=check_deadline)


def test_thumbnail_checks_deadline() -> None:
    for calls in range(3):
        with pytest.raises(TimeUp):
            thumb(SOUND['JPEG'], (48, 32), check_deadline=Late(calls))


# -- Failures of the machine --------------------------------------------------------


class Full(io.BytesIO):
    """A full disk."""

    def write(self, data: object, /) -> NoReturn:
        raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('name', ['JPEG', 'PNG'])
def test_full_disk_is_not_reported_as_damage(name: str) -> None:
    with pytest.raises(OSError, match='No space') as caught:
        transform.to_jpeg(
            io.BytesIO(SOUND[name]),
            Full(),
            max_pixels=PIXELS,
            quality=85,
            min_thumb_size=64,
            check_deadline=nothing,
        )
    assert caught.value.errno == errno.ENOSPC


class Filling(io.RawIOBase):
    """A disk that writes a part of a block before it is full."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, block: Any, /) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, 'No space left on device')
        taken = min(self.room, len(block))
        self.room -= taken
        return taken


@pytest.mark.parametrize('name', ['JPEG', 'PNG'])
def test_disk_that_fills_up_at_the_end(name: str) -> None:
    room = len(store(SOUND[name])) - 10
    disk = Filling(room)
    target = io.BufferedWriter(disk)
    with pytest.raises(OSError, match='No space'):
        transform.to_jpeg(
            io.BytesIO(SOUND[name]),
            target,
            max_pixels=PIXELS,
            quality=85,
            min_thumb_size=64,
            check_deadline=nothing,
        )
    disk.room = len(SOUND[name])
    target.close()


def test_out_of_memory_is_not_reported_as_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', load)
    with pytest.raises(MemoryError):
        store(SOUND['PNG'])


def test_warnings_of_pillow_are_suppressed(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = samples.encode(samples.scene(96, 64), 'TIFF')
    cut = data[:200] + bytes(20)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        transform.configure(96 * 64)
        with ThreadPoolExecutor() as pool:
            assert pool.submit(store, data, 96 * 64).result()
            with pytest.raises(ImageDamaged):
                pool.submit(store, cut).result()
    assert capfd.readouterr() == ('', '')
    assert not caplog.records


# -- Thumbnails ---------------------------------------------------------------------


@pytest.mark.parametrize('shape', [(512, 384), (511, 385), (1023, 767), (640, 129)])
@pytest.mark.parametrize('k', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_thumbnail(shape: Size, k: int, mode: str) -> None:
    data = samples.encode(samples.scene(*shape).convert(mode), 'JPEG', quality=90)
    size = shape[0] >> k, shape[1] >> k
    small = samples.decode(thumb(data, size, quality=95))
    assert small.size == size
    assert small.mode == mode
    best = samples.decode(data).resize(size, Image.Resampling.LANCZOS)
    assert difference(small, as_jpeg(best)) < 6


@pytest.mark.parametrize('k', [2, 3])
def test_thumbnail_keeps_fine_lines_where_libjpeg_misses_its_size(k: int) -> None:
    wave = bytes(round(128 + 100 * math.sin(math.tau * y / 12)) for y in range(1050))
    lines = Image.frombytes('L', (1, 1050), wave).resize((168, 1050))
    data = samples.encode(lines, 'JPEG', quality=95)
    size = 168 >> k, 1050 >> k
    best = samples.decode(data).resize(size, Image.Resampling.LANCZOS)
    small = samples.decode(thumb(data, size, quality=98))
    (error,) = ImageStat.Stat(ImageChops.difference(small, best)).rms
    assert error < 3.2  # which is 38 dB; shifted by half a pixel it would be 11 and 27


@pytest.mark.parametrize('shape', [(2, 2), (3, 2), (5, 7), (9, 1000), (8, 8), (15, 31)])
def test_thumbnail_of_a_tiny_image(shape: Size) -> None:
    data = samples.photo(*shape)
    for k in range(1, min(shape).bit_length()):
        size = shape[0] >> k, shape[1] >> k
        assert samples.decode(thumb(data, size)).size == size


def test_thumbnail_is_reproducible() -> None:
    data = samples.photo(320, 240)
    assert thumb(data, (160, 120)) == thumb(data, (160, 120))
    assert transform.RENDERER.isascii()


def test_thumbnail_has_no_metadata() -> None:
    data = samples.camera(samples.scene(64, 64))
    for size in ((64, 64), (32, 32), (31, 31)):
        small = thumb(data, size)
        assert samples.COMMENT not in small
        assert 'exif' not in samples.decode(small).info


@pytest.mark.parametrize('part', [0.0, 0.5])
def test_thumbnail_of_damaged(part: float) -> None:
    data = SOUND['JPEG'][: int(len(SOUND['JPEG']) * part)]
    with pytest.raises(ImageDamaged, match='damaged'):
        thumb(data, (48, 32))


def test_thumbnail_of_an_image_above_the_limit_of_uploads() -> None:
    data = samples.photo(640, 480)
    transform.configure(1000)
    small = thumb(data, (320, 240))
    transform.configure(PIXELS)
    assert samples.decode(small).size == (320, 240)


# -- Previews and WebP --------------------------------------------------------------


@pytest.fixture
def large_images() -> None:
    """Accept images of more than 1.5 megapixels, which have previews."""
    transform.configure(50_000_000)


def make_previews(
    data: bytes, sizes: list[Size], check_deadline: CheckDeadline = nothing
) -> list[bytes]:
    return transform.previews(data, sizes, quality=85, check_deadline=check_deadline)


@pytest.mark.parametrize('shape', [(1600, 1200), (1608, 1224), (2001, 1001), (999, 9)])
@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_previews_of_an_upload(large_images: None, shape: Size, mode: str) -> None:
    image = samples.scene(*shape).convert(mode)
    data = samples.encode(image, 'JPEG', quality=90)
    target = io.BytesIO()
    upload = transform.to_jpeg(
        io.BytesIO(data),
        target,
        max_pixels=50_000_000,
        quality=85,
        min_thumb_size=64,
        check_deadline=nothing,
    )
    sizes = reduction.preview_sizes(shape, 64)
    if shape[0] % 2:  # resampled later, or too small
        assert upload.previews == []
    else:
        assert upload.previews == make_previews(target.getvalue(), sizes)
        assert upload.previews[0] == thumb(target.getvalue(), sizes[0])


@pytest.mark.parametrize('shape', [(1600, 1200), (2001, 1001), (1604, 1202)])
@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_previews_of_a_stored_image(shape: Size, mode: str) -> None:
    image = samples.scene(*shape).convert(mode)
    data = samples.encode(image, 'JPEG', quality=92)
    sizes = reduction.preview_sizes(shape, 64)
    previews = [samples.decode(preview) for preview in make_previews(data, sizes)]
    assert [preview.size for preview in previews] == sizes
    for preview, size in zip(previews, sizes, strict=True):
        assert preview.mode == mode
        best = image.resize(size, Image.Resampling.LANCZOS)
        assert difference(preview, as_jpeg(best, 85)) < 6


def test_previews_do_not_depend_on_smaller_ones() -> None:
    data = samples.photo(1600, 1200)
    sizes = reduction.preview_sizes((1600, 1200), 1)
    previews = make_previews(data, sizes)
    for count in range(1, len(sizes)):
        assert make_previews(data, sizes[:count]) == previews[:count]


@pytest.mark.parametrize('shape', [(64, 64), (65, 64), (64, 65), (9, 3), (3, 9)])
def test_halvings(shape: Size) -> None:
    wave = samples.scene(*shape)
    sizes = [(shape[0] >> k, shape[1] >> k) for k in range(min(shape).bit_length())]
    halvings = list(reduction.halvings(wave, sizes))
    assert [each.size for each in halvings] == sizes
    assert halvings[0] is wave
    if shape == (64, 64):
        mean = ImageStat.Stat(wave.crop((0, 0, 2, 2))).mean
        pixel = ImageStat.Stat(halvings[1].crop((0, 0, 1, 1))).mean
        assert all(abs(one - two) <= 0.5 for one, two in zip(pixel, mean, strict=True))


def test_previews_check_deadline() -> None:
    data = samples.photo(1600, 1200)
    counter = Late(1_000_000)
    make_previews(data, [(800, 600)], counter)
    for calls in range(1_000_000 - counter.calls):
        with pytest.raises(TimeUp):
            make_previews(data, [(800, 600)], Late(calls))


@pytest.mark.parametrize('part', [0.0, 0.5])
def test_previews_of_damaged(part: float) -> None:
    data = samples.photo(1600, 1200)
    with pytest.raises(ImageDamaged, match='damaged'):
        make_previews(data[: int(len(data) * part)], [(800, 600), (400, 300)])


def test_truncated_scan_of_an_image_with_a_preview(large_images: None) -> None:
    data = samples.photo(1600, 1200)
    with pytest.raises(ImageDamaged):
        store(data[: len(data) // 2] + b'\xff\xd9', max_pixels=50_000_000)


@pytest.mark.parametrize('shape', [(1600, 1200), (2001, 1001)])
@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_thumbnail_from_preview(large_images: None, shape: Size, mode: str) -> None:
    image = samples.scene(*shape).convert(mode)
    data = samples.encode(image, 'JPEG', quality=92)
    size = shape[0] // 2, shape[1] // 2
    preview = thumb(data, size)
    for k in (1, 2, 3):
        small = size[0] >> k, size[1] >> k
        rendered = transform.thumbnail(
            preview, small, quality=95, check_deadline=nothing, is_preview=True
        )
        best = image.resize(small, Image.Resampling.LANCZOS)
        assert samples.decode(rendered).size == small
        assert difference(samples.decode(rendered), best) < 9


@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize('quality', [1, 50, 85, 100])
@pytest.mark.parametrize('size', [(800, 600), (200, 150)])
def test_webp_is_the_same_picture_and_smaller(
    large_images: None, mode: str, quality: int, size: Size
) -> None:
    image = samples.scene(1600, 1200).convert(mode)
    data = samples.encode(image, 'JPEG', quality=92)
    webp = transform.thumbnail(
        data, size, quality=quality, check_deadline=nothing, format_='webp'
    )
    jpeg = thumb(data, size, quality=quality)
    decoded = samples.decode(webp)
    assert (decoded.format, decoded.size) == ('WEBP', size)
    assert len(webp) < len(jpeg)
    if quality > 1:
        assert difference(decoded.convert(mode), samples.decode(jpeg)) < 9
