"""Parsers and decoders on damaged files: documented errors and bounded work only."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, SupportsIndex

import hypothesis
import pytest
from hypothesis import strategies as st
from PIL import Image

from asgilook.errors import ImageDamaged, UnsupportedFormat, UploadTooLarge
from asgilook.imaging import exif, formats, gif, jpeg, tiff, transform
from tests import samples
from tests.samples import chunk, segment

Edit = Callable[[bytes], bytes]

MAX_PIXELS = 10_000

_SCENE = samples.soft(24, 16)
_JPEG = samples.encode(_SCENE, 'JPEG', exif=samples.exif(6), icc_profile=samples.SRGB)
_PNG = samples.encode(_SCENE, 'PNG', icc_profile=samples.SRGB)
FILES = {
    'baseline': samples.insert(_JPEG, segment(0xFE, b'comment')),
    'progressive': samples.encode(_SCENE, 'JPEG', progressive=True),
    'PNG': _PNG[:-12] + chunk(b'eXIf', samples.exif(3)) + _PNG[-12:],
    'palette': samples.encode(_SCENE.quantize(9), 'PNG', transparency=3),
    'GIF': samples.encode(_SCENE, 'GIF', comment=b'comment', transparency=0),
    'TIFF': samples.encode(_SCENE, 'TIFF', compression='tiff_lzw'),
    'big-endian': samples.encode(_SCENE.convert('I;16'), 'TIFF', big_tiff=True),
    'BMP': samples.encode(_SCENE, 'BMP'),
    'WEBP': samples.encode(_SCENE, 'WEBP', exif=samples.exif(8)),
    'AVIF': samples.encode(_SCENE, 'AVIF', exif=samples.exif(8)),
}

# What parsers look for, and numbers at their limits.
TOKENS = [
    *(b'\xff', b'\xff\xd8', b'\xff\xd9', b'\xff\xda', b'\xff\xc0', b'\xff\xe1\0\2'),
    *(b'Exif\0\0', b'IEND', b'IDAT', b'tRNS', b'!\xfe', b'!\xfe\0', b',', b'\0'),
    *(b'\0\0\0\0', b'\xff\xff\xff\xff', b'\x7f\xff\xff\xff', b'\1\0', b'II*\0'),
]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """Return a function that overwrites, inserts, repeats or removes some bytes."""
    place = draw(st.floats(0, 1, exclude_max=True))
    kind = draw(st.sampled_from(['overwrite', 'insert', 'repeat', 'remove', 'end']))
    token = draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=8))
    count = draw(st.sampled_from([1, 2, 7, 300]))

    def edit(data: bytes) -> bytes:
        at = int(place * len(data))
        match kind:
            case 'overwrite':
                return data[:at] + token + data[at + len(token) :]
            case 'insert':
                return data[:at] + token * count + data[at:]
            case 'repeat':
                return data[:at] + data[at : at + 4 * len(token)] * count + data[at:]
            case 'remove':
                return data[:at] + data[at + len(token) * count :]
        return data[:at]

    return edit


@st.composite
def damaged(draw: st.DrawFn, *names: str) -> bytes:
    """Return one of these files, or of all, after some edits."""
    data = FILES[draw(st.sampled_from(names or list(FILES)))]
    for edit in draw(st.lists(edits(), min_size=1, max_size=4)):
        data = edit(data)
    return data


class Counter:
    """A deadline check that counts its calls."""

    calls = 0

    def __call__(self) -> None:
        self.calls += 1


class Reads(io.BytesIO):
    """A file that counts its reads."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.count += 1
        return super().read(size)


class Indexed(bytes):
    """Bytes that count how often they are indexed."""

    accesses = 0

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        self.accesses += 1
        return super().__getitem__(key)


@pytest.fixture(autouse=True, scope='module')
def _limits() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
        transform.configure(MAX_PIXELS)
        yield


@hypothesis.given(damaged())
def test_parse(data: bytes) -> None:
    """A parser makes a file hardly larger, and takes a check for each part of it."""
    check = Counter()
    try:
        picture = formats.parse(data, check)
    except (ValueError, IndexError):
        picture = None
    assert check.calls <= len(data)
    assert picture is None or len(picture.data) <= len(data) + 100


@hypothesis.given(damaged('GIF'))
@hypothesis.example(FILES['GIF'][:13] + b'!\xfe\0' * 1000)
def test_gif_checks_deadline_while_it_reads(data: bytes) -> None:
    check, indexed = Counter(), Indexed(data)
    with contextlib.suppress(IndexError):
        gif.first_frame(indexed, check)
    assert indexed.accesses <= 20 + 6 * check.calls


@hypothesis.given(damaged('TIFF', 'big-endian'))
def test_tiff_keeps_the_length(data: bytes) -> None:
    if data[:2] in (b'II', b'MM'):
        assert len(tiff.without_metadata(data)) <= len(data) + 100


@hypothesis.given(damaged('baseline', 'progressive'))
@hypothesis.example(b'\xff\xd8' + b'\xff' * 100_000)
@hypothesis.example(b'\xff\xd8' + b'\xff\xe0\0\2' * 30_000)
def test_size_takes_few_reads(data: bytes) -> None:
    file = Reads(data)
    try:
        width, height = jpeg.read_size(file)
    except ValueError:
        pass
    else:
        assert 0 < width < 65536
        assert 0 < height < 65536
    assert file.count <= 2 + len(data) // 1000


@hypothesis.given(
    st.sampled_from([samples.exif(6), samples.exif(6)[6:], b'II', b'MM\0*', b'']),
    st.lists(edits(), max_size=4),
)
@hypothesis.example(samples.exif(6), [lambda data: b'Exif\0\0' * 2_000_000 + data])
def test_exif(data: bytes, damage: list[Edit]) -> None:
    for edit in damage:
        data = edit(data)
    assert 1 <= exif.orientation(data) <= 8


@hypothesis.given(damaged())
@hypothesis.settings(max_examples=100)
def test_upload(data: bytes) -> None:
    """An accepted upload is a JPEG of the reported size."""
    target = io.BytesIO()
    check = Counter()
    try:
        upload = transform.to_jpeg(
            io.BytesIO(data),
            target,
            max_pixels=MAX_PIXELS,
            quality=85,
            min_thumb_size=4,
            check_deadline=check,
        )
    except (ImageDamaged, UnsupportedFormat, UploadTooLarge):
        assert target.getvalue() == b''
    else:
        stored = target.getvalue()
        assert samples.decode(stored).size == upload.size
        assert jpeg.read_size(io.BytesIO(stored)) == upload.size
    assert check.calls <= 100 + len(data)


@hypothesis.given(damaged('baseline', 'progressive'))
def test_thumbnail(data: bytes) -> None:
    try:
        small = transform.thumbnail(data, (12, 8), quality=85, check_deadline=Counter())
    except ImageDamaged:
        return
    assert samples.decode(small).size == (12, 8)
