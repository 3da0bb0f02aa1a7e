import io
import struct
from typing import Any

import pytest

from asgilook.imaging import jpeg
from tests import bombs, samples
from tests.samples import segment

Options = dict[str, Any]


def nothing() -> None:
    """Stand in for a deadline check."""


def size(data: bytes) -> tuple[int, int]:
    return jpeg.read_size(io.BytesIO(data))


def rewrite(data: bytes) -> bytes:
    return b''.join(jpeg.finish(proof(data)))


def proof(data: bytes) -> bytes:
    rewritten = jpeg.rewrite(data, jpeg.parse(data, nothing))
    assert rewritten is not None
    return rewritten


def is_rejected(data: bytes) -> bool:
    return jpeg.rewrite(data, jpeg.parse(data, nothing)) is None


def with_frame(data: bytes, **changes: bytes) -> bytes:
    """Return a JPEG with other bytes in its frame header."""
    at = data.index(b'\xff\xc0')
    places = {'bits': 4, 'height': 5, 'width': 7, 'count': 9, 'first': 10}
    for name, new in changes.items():
        start = at + places[name]
        data = data[:start] + new + data[start + len(new) :]
    return data


# -- read_size ----------------------------------------------------------------------


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'optimize': True}])
def test_size_of_photo(options: Options) -> None:
    assert size(samples.photo(123, 45, **options)) == (123, 45)


class Recorded(io.BytesIO):
    """A file that records the sizes of its reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[int | None] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads.append(size)
        return super().read(size)


def test_size_takes_one_read_without_metadata() -> None:
    file = Recorded(samples.photo(1000, 800))
    assert jpeg.read_size(file) == (1000, 800)
    assert file.reads == [4096]


@pytest.mark.parametrize('length', [0, 4070, 4080, 4086, 4087, 4088, 4090, 60_000])
def test_size_after_metadata(length: int) -> None:
    data = samples.insert(samples.photo(30, 20), segment(0xE1, bytes(length)))
    assert size(data) == (30, 20)


def test_size_after_fill_bytes() -> None:
    assert size(samples.insert(samples.photo(30, 20), b'\xff\xff\xff')) == (30, 20)


@pytest.mark.parametrize('part', [b'\xff', segment(0xFE, b'')])
def test_size_after_too_many_segments(part: bytes) -> None:
    start = jpeg.parse(samples.photo(30, 20), nothing)
    before = [marker for marker, _ in start.segments].index(jpeg.SOF0)
    allowed = 10_000 - before - 1
    assert size(samples.insert(samples.photo(30, 20), part * allowed)) == (30, 20)
    with pytest.raises(ValueError, match='too many segments'):
        size(samples.insert(samples.photo(30, 20), part * (allowed + 1)))


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\xff',
        b'GIF89a',
        b'\xff\xd8',
        b'\xff\xd8\xff\xc0\0\x0b\x08',
        samples.photo(8, 8)[:100],
        samples.insert(samples.photo(8, 8), b'garbage'),
        samples.insert(samples.photo(8, 8), b'\xff\xd9\0\0'),
        samples.insert(samples.photo(8, 8), b'\xff\xe1\0\x01'),
        samples.insert(samples.photo(8, 8), b'\xff\xda\0\x0c'),
        with_frame(samples.photo(8, 8), height=b'\0\0'),
        with_frame(samples.photo(8, 8), width=b'\0\0'),
    ],
)
def test_size_of_damaged(data: bytes) -> None:
    with pytest.raises(ValueError, match='JPEG'):
        size(data)


# -- parse, without_metadata --------------------------------------------------------


def test_parse_finds_metadata() -> None:
    header = jpeg.parse(samples.camera(samples.scene(32, 24)), nothing)
    assert header.exif == samples.exif()
    assert header.profile == samples.SRGB
    assert header.is_well_formed


def test_parse_checks_deadline() -> None:
    def late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        jpeg.parse(samples.photo(8, 8), late)


@pytest.mark.parametrize('junk', [b'abc', b'\xff\0', b'\xff\xd0', b'\xff\xe1\0\0'])
def test_parse_skips_junk(junk: bytes) -> None:
    data = samples.photo(32, 24)
    header = jpeg.parse(samples.insert(data, junk), nothing)
    assert not header.is_well_formed
    clean = jpeg.without_metadata(samples.insert(data, junk), header)
    assert samples.decode(clean).tobytes() == samples.decode(data).tobytes()


def test_parse_skips_fill_bytes() -> None:
    data = samples.photo(32, 24)
    assert rewrite(samples.insert(data, b'\xff\xff')) == rewrite(data)


@pytest.mark.parametrize(
    'data',
    [
        b'\xff\xd8\xff',
        b'\xff\xd8\xff\xe0\0\x02',
        b'\xff\xd8junk',
        samples.insert(samples.photo(8, 8), segment(0xDD, b'\0\0') * 1001),
    ],
)
def test_parse_rejects(data: bytes) -> None:
    with pytest.raises(ValueError, match='JPEG'):
        jpeg.parse(data, nothing)


def test_parse_accepts_a_thousand_segments() -> None:
    """Those of the photo, which are its tables and frame header, are among them."""
    data = samples.photo(8, 8)
    own = len(jpeg.parse(data, nothing).segments)
    whole = samples.insert(data, segment(0xDD, b'\0\0') * (1000 - own))
    assert len(jpeg.parse(whole, nothing).segments) == 1000
    with pytest.raises(ValueError, match='too many tables'):
        jpeg.parse(samples.insert(whole, segment(0xDD, b'\0\0')), nothing)


def icc(*parts: tuple[int, int]) -> bytes:
    data = [segment(0xE2, b'ICC_PROFILE\0%c%cx%d' % (n, of, n)) for n, of in parts]
    return samples.insert(samples.photo(8, 8), *data)


@pytest.mark.parametrize(
    ('parts', 'profile'),
    [
        ([(1, 1)], b'x1'),
        ([(2, 3), (3, 3), (1, 3)], b'x1x2x3'),
        ([], b''),
        ([(1, 2)], b''),
        ([(1, 2), (1, 2)], b''),
        ([(2, 2), (3, 2)], b''),
        ([(0, 1)], b''),
        ([(n % 256, 0) for n in range(300)], b''),
    ],
)
def test_profile_is_joined(parts: list[tuple[int, int]], profile: bytes) -> None:
    assert jpeg.parse(icc(*parts), nothing).profile == profile


def test_first_exif_counts() -> None:
    data = samples.photo(8, 8)
    parts = (segment(0xE1, b'Exif\0\0' + name) for name in (b'first', b'second'))
    assert jpeg.parse(samples.insert(data, *parts), nothing).exif == b'Exif\0\0first'


@pytest.mark.parametrize('options', [{}, {'progressive': True}])
def test_without_metadata_same_pixels(options: Options) -> None:
    data = samples.camera(samples.scene(65, 43), **options)
    clean = jpeg.without_metadata(data, jpeg.parse(data, nothing))
    assert samples.decode(clean).tobytes() == samples.decode(data).tobytes()
    assert not {'exif', 'icc_profile', 'comment'} & set(samples.decode(clean).info)
    assert samples.TRAILER not in clean


@pytest.mark.parametrize('options', [{}, {'progressive': True}])
def test_without_metadata_truncated(options: Options) -> None:
    data = samples.photo(200, 150, **options)
    cut = data[: len(data) // 2]
    clean = jpeg.without_metadata(cut, jpeg.parse(cut, nothing))
    with pytest.raises(OSError, match='truncated'):
        samples.decode(clean)


def test_truncated_scan_with_an_end_is_detected() -> None:
    data = samples.photo(200, 150)
    cut = data[: len(data) // 2] + b'\xff\xd9'
    samples.decode(cut)  # libjpeg makes the rest gray
    with pytest.raises(OSError, match='truncated'):
        samples.decode(jpeg.without_metadata(cut, jpeg.parse(cut, nothing)))
    with pytest.raises(OSError, match='truncated'):
        samples.decode(proof(cut))


# -- rewrite ------------------------------------------------------------------------


@pytest.mark.parametrize('shape', [(1, 1), (7, 9), (8, 8), (16, 16), (129, 97)])
@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'quality': 100, 'subsampling': 0},
        {'quality': 1, 'optimize': True},
        {'restart_marker_rows': 1},
    ],
)
def test_rewrite_same_pixels(
    shape: tuple[int, int], mode: str, options: Options
) -> None:
    image = samples.scene(*shape).convert(mode)
    data = samples.camera(image, icc_profile=None, **options)
    rewritten = rewrite(data)
    assert samples.decode(rewritten).tobytes() == samples.decode(data).tobytes()
    assert samples.decode(proof(data)).size == shape
    assert size(rewritten) == shape
    for secret in (samples.GPS, samples.XMP, samples.COMMENT, b'film', b'Exif'):
        assert secret not in rewritten
    assert rewritten.endswith(b'\xff\xd9')


def test_rewrite_is_stable() -> None:
    rewritten = rewrite(samples.photo(33, 44))
    assert rewrite(rewritten) == rewritten


def test_rewrite_drops_second_image() -> None:
    first = samples.photo(40, 30)
    assert rewrite(first + samples.photo(50, 60, seed=1)) == rewrite(first)


def split_scan(data: bytes) -> bytes:
    """Return a JPEG whose scan header names one component less."""
    at = data.index(b'\xff\xda')
    return data[: at + 4] + b'\x02' + data[at + 5 :]


PHOTO = samples.photo(40, 30)


@pytest.mark.parametrize(
    'data',
    [
        samples.photo(40, 30, progressive=True),
        samples.encode(samples.scene(40, 30).convert('CMYK'), 'JPEG'),
        samples.photo(40, 30, keep_rgb=True),
        samples.insert(PHOTO, segment(0xEE, b'Adobe\0\x64\0\0\0\0\x01')),
        samples.insert(PHOTO, segment(0xCC, b'')),
        samples.insert(PHOTO, b'junk'),
        samples.insert(PHOTO, segment(0xC0, b'')),
        samples.insert(PHOTO, segment(0xDC, b'\0\x1e')),
        with_frame(PHOTO, bits=b'\x0c'),
        with_frame(PHOTO, height=b'\0\0'),
        with_frame(PHOTO, width=b'\0\0'),
        with_frame(PHOTO, count=b'\x01'),
        with_frame(PHOTO, first=b'\0'),
        PHOTO.replace(b'\xff\xc4', b'\xff\xdb'),
        PHOTO[:-2],
        PHOTO[:-2] + b'\xff\xfe\0\x04hi\xff\xd9',
        PHOTO[: PHOTO.index(b'\xff\xda') + 4],
        split_scan(PHOTO),
        PHOTO[:-2] + PHOTO[PHOTO.index(b'\xff\xda') :],
    ],
)
def test_rewrite_rejects(data: bytes) -> None:
    assert is_rejected(data)


def test_rewrite_with_a_short_frame_header() -> None:
    header = jpeg.parse(PHOTO, nothing)
    header.segments = [
        (marker, part[:8] if marker == jpeg.SOF0 else part)
        for marker, part in header.segments
    ]
    assert jpeg.rewrite(PHOTO, header) is None


def test_scans_are_counted() -> None:
    assert jpeg.count_scans(PHOTO) == 1
    assert jpeg.count_scans(bombs.scans(count=250, side=64)) == 250


def test_quantization_of_16_bits_is_not_baseline() -> None:
    tables = [[300] * 64, [300] * 64]
    data = samples.encode(samples.scene(40, 30), 'JPEG', qtables=tables)
    assert struct.pack('>BB', 0xFF, 0xC1) in data
    assert is_rejected(data)
    assert size(data) == (40, 30)
