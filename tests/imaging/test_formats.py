import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from asgilook.imaging import color, exif, formats, gif, png, tiff
from tests import bombs, samples
from tests.samples import chunk


def nothing() -> None:
    """Stand in for a deadline check."""


def parse(data: bytes) -> formats.Picture:
    picture = formats.parse(data, nothing)
    assert picture is not None
    return picture


def entry(order: str, tag: int, kind: int, value: bytes) -> bytes:
    return struct.pack(order + 'HHI', tag, kind, 1) + value.ljust(4, b'\0')


def tiff_of(order: str, *entries: bytes) -> bytes:
    mark = b'II' if order == '<' else b'MM'
    head = mark + struct.pack(order + 'HIH', 42, 8, len(entries))
    return head + b''.join(entries)


# -- EXIF ---------------------------------------------------------------------------


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize(('kind', 'code'), [(1, 'B'), (3, 'H'), (4, 'I')])
@pytest.mark.parametrize('prefix', [b'', b'Exif\0\0', b'Exif\0\0' * 2])
def test_exif_orientation(order: str, kind: int, code: str, prefix: bytes) -> None:
    other = entry(order, 0x0100, 3, b'\1\1')
    data = tiff_of(
        order, other, entry(order, 0x0112, kind, struct.pack(order + code, 6))
    )
    assert exif.orientation(prefix + data) == 6


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'Exif\0\0',
        b'XX*\0',
        b'II*\0',
        b'II*\0\xff\xff\xff\xff',
        tiff_of('<'),
        tiff_of('<', entry('<', 0x0112, 3, b'\0\0')),
        tiff_of('<', entry('<', 0x0112, 3, b'\x09\0')),
        tiff_of('<', entry('<', 0x0112, 2, b'6\0')),
        tiff_of('<', entry('<', 0x0112, 5, b'\x06\0')),
        tiff_of('<', entry('<', 0x0100, 3, b'\x06\0'))[:-8],
    ],
)
def test_invalid_exif_is_upright(data: bytes) -> None:
    assert exif.orientation(data) == 1


# -- PNG ----------------------------------------------------------------------------


def test_png_keeps_what_decoding_needs() -> None:
    image = samples.soft(32, 24).convert('P')
    data = samples.encode(image, 'PNG', transparency=7)
    clean = samples.decode(png.parse(data, nothing).join())
    assert clean.info == {'transparency': 7}
    assert clean.tobytes() == image.tobytes()
    assert clean.getpalette() == samples.decode(data).getpalette()


@pytest.mark.parametrize(
    'chunks',
    [
        [chunk(b'zTXt', b'bomb\0\0' + zlib.compress(bytes(1 << 24)))],
        [chunk(b'iTXt', b'bomb\0\1\0\0\0' + zlib.compress(bytes(1 << 24)))],
        [chunk(b'iCCP', b'bomb\0\0' + zlib.compress(bytes(1 << 24)))],
        [chunk(b'iCCP', b'no name')],
        [chunk(b'iCCP', b'name\0\0not packed')],
        [chunk(b'iCCP', b'name\0\0' + zlib.compress(bytes(99))[:-4])],
        [chunk(b'gAMA', b'')],
        [chunk(b'cHRM', b'')],
        [chunk(b'pHYs', b'')],
        [chunk(b'acTL', b'')],
        [chunk(b'acTL', struct.pack('>II', 9, 0)), chunk(b'fcTL', bytes(26))],
        [chunk(b'tEXt', b'a\0b')[:-1] + b'x'],
        [chunk(b'eXIf', b'garbage')],
        [chunk(b'zTXt', b'a\0\7b')],
    ],
)
def test_invalid_metadata_of_png_is_removed(chunks: list[bytes]) -> None:
    data = samples.png(32, 24)
    picture = parse(samples.insert_chunks(data, *chunks))
    assert samples.decode(picture.data).tobytes() == samples.decode(data).tobytes()
    assert picture.icc == b''


def test_png_without_iend_is_truncated() -> None:
    data = samples.png(32, 24)
    for cut in (data[:-12], data[:-13], data[:40]):
        with pytest.raises(ValueError, match='truncated'):
            parse(cut)


def test_metadata_of_png_after_the_pixels() -> None:
    data = samples.png(32, 24, icc_profile=samples.SRGB)
    data = data[:-12] + chunk(b'eXIf', samples.exif(6)) + data[-12:] + samples.TRAILER
    picture = parse(data)
    assert picture.icc == samples.SRGB
    assert exif.orientation(picture.exif) == 6
    assert samples.TRAILER not in picture.data


@pytest.mark.parametrize(
    ('depth', 'color_type', 'body', 'rows', 'seen'),
    [
        (1, 0, b'\0\1', b'\0\x40', [0, 255]),
        (2, 0, b'\0\1', b'\0\x1b', [0, 255, 170, 255]),
        (4, 0, b'\0\x0f', b'\0\x0f', [0, 255]),
        (8, 0, b'\0\7', b'\0\7\x08', [255, 8]),
        (16, 0, b'\1\1', b'\0\1\1\1\0', [255, 1]),
    ],
)
def test_transparent_gray_of_any_depth(
    depth: int, color_type: int, body: bytes, rows: bytes, seen: list[int]
) -> None:
    header = struct.pack('>IIBBBBB', len(seen), 1, depth, color_type, 0, 0, 0)
    parts = (
        (b'IHDR', header),
        (b'tRNS', body),
        (b'IDAT', zlib.compress(rows)),
        (b'IEND', b''),
    )
    data = png.MAGIC + b''.join(chunk(*part) for part in parts)
    clean = samples.decode(png.parse(data, nothing).join())
    flat = color.flatten(clean, b'')
    assert list(flat.tobytes()) == seen


def test_transparent_color_of_16_bits() -> None:
    header = struct.pack('>IIBBBBB', 2, 1, 16, 2, 0, 0, 0)
    rows = b'\0' + b'\xff\xff\0\0\0\0' + b'\0\0\xff\xff\0\0'
    parts = (
        (b'IHDR', header),
        (b'tRNS', b'\xff\xff\0\0\0\0'),
        (b'IDAT', zlib.compress(rows)),
        (b'IEND', b''),
    )
    data = png.MAGIC + b''.join(chunk(*part) for part in parts)
    clean = samples.decode(png.parse(data, nothing).join())
    alpha = clean.convert('RGBA').getchannel('A')
    assert list(alpha.tobytes()) == [0, 255]


# -- GIF ----------------------------------------------------------------------------


@pytest.mark.parametrize('disposal', [0, 1, 2, 3])
def test_gif_becomes_its_first_frame(disposal: int) -> None:
    frames = [samples.soft(20, 10, seed) for seed in range(3)]
    data = samples.encode(
        frames[0],
        'GIF',
        save_all=True,
        append_images=frames[1:],
        comment=samples.COMMENT,
        disposal=disposal,
        transparency=0,
    )
    clean = gif.first_frame(data, nothing)
    assert samples.COMMENT not in clean
    image = samples.decode_as(GifImageFile, clean)
    assert image.n_frames == 1
    assert image.info.get('transparency') == samples.decode(data).info.get(
        'transparency'
    )
    assert (
        image.convert('RGBA').tobytes()
        == samples.decode(data).convert('RGBA').tobytes()
    )


@pytest.mark.parametrize(
    'data',
    [
        b'GIF89a',
        samples.encode(Image.new('L', (8, 8)), 'GIF')[:13],
        b'GIF89a\x08\0\x08\0\0\0\0;',
        b'GIF89a\x08\0\x08\0\0\0\0,\0',
    ],
)
def test_gif_without_a_frame(data: bytes) -> None:
    with pytest.raises(IndexError):
        gif.first_frame(data, nothing)


# -- TIFF ---------------------------------------------------------------------------


def open_tiff(data: bytes) -> TiffImageFile:
    image = Image.open(io.BytesIO(data))
    assert isinstance(image, TiffImageFile)
    return image


def tags(data: bytes) -> set[int]:
    return set(open_tiff(data).tag_v2)


@pytest.mark.parametrize('options', [{}, {'big_tiff': True}])
def test_tiff_keeps_only_what_decoding_needs(options: dict[str, Any]) -> None:
    image = samples.soft(32, 24)
    exif = Image.Exif()
    exif[0x010E] = 'a description'
    exif[0x013B] = 'an artist'
    data = samples.encode(
        image,
        'TIFF',
        exif=exif,
        save_all=True,
        append_images=[image],
        icc_profile=samples.SRGB,
        **options,
    )
    clean = tiff.without_metadata(data)
    assert {0x010E, 0x013B} <= tags(data)
    assert not {0x010E, 0x013B} & tags(clean)
    decoded = samples.decode_as(TiffImageFile, clean)
    assert decoded.n_frames == 1
    assert decoded.info['icc_profile'] == samples.SRGB
    assert decoded.tobytes() == image.tobytes()


def test_big_endian_tiff() -> None:
    pixels = bytes(range(64))
    entries = (
        *((256, 4, 8), (257, 4, 8), (258, 3, 8), (262, 3, 1), (273, 4, 256)),
        *((277, 3, 1), (278, 4, 8), (305, 4, 0), (34665, 4, 99)),
    )
    data = b'MM\0*' + struct.pack('>IH', 8, len(entries))
    for tag, kind, value in entries:
        packed = struct.pack('>HH' if kind == 3 else '>I', *((value, 0)[: 5 - kind]))
        data += struct.pack('>HHI', tag, kind, 1) + packed
    data = data.ljust(256, b'\0') + pixels
    assert samples.decode(tiff.without_metadata(data)).tobytes() == pixels


@pytest.mark.parametrize(
    'data', [b'II*\0', b'II*\0\xff\xff\xff\xff', b'II+\0\x08\0\0\0' + b'\xff' * 8]
)
def test_tiff_without_a_directory(data: bytes) -> None:
    assert tiff.without_metadata(data) == data


def test_tiff_with_half_a_directory() -> None:
    data = bombs.directory((256, 4, 1, 8), (257, 4, 1, 8))[:30]
    assert tiff.without_metadata(data)[8:10] == b'\x01\0'


def test_tags_with_many_values_are_dropped() -> None:
    bomb = bombs.strips(1 << 19)
    assert tiff.without_metadata(bomb)[8:10] == bytes((bomb[8] - 1, 0))
    icc = (34675, 7, (1 << 18) + 1, 1024)
    sound = bombs.directory(
        *((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1)),
        *((277, 3, 1, 1), (278, 4, 1, 8), (273, 4, 1, 1024), icc),
        data=bytes((1 << 18) + 1),
    )
    assert 34675 in tags(tiff.without_metadata(sound))


def has_oversized_tiles(data: bytes) -> bool:
    return tiff.has_oversized_tiles(open_tiff(data))


@pytest.mark.parametrize(
    ('width', 'height', 'tile', 'expected'),
    [
        (8, 8, 256, False),
        (8, 8, 4096, False),
        (8, 8, 4112, True),
        (65_000, 8, 256, False),
        (65_000, 8, 1024, True),
        (8, 65_000, 1024, True),
        (8, 8, 0, True),
    ],
)
def test_oversized_tiles(width: int, height: int, tile: int, expected: bool) -> None:
    assert has_oversized_tiles(bombs.tiles(width, height, tile)) is expected


def test_tile_without_a_length() -> None:
    data = bombs.tiles(8, 8, 16)
    at = data.index(struct.pack('<HHI', 323, 4, 1))
    assert has_oversized_tiles(data[:at] + struct.pack('<HH', 323, 2) + data[at + 4 :])


def test_strips_are_not_tiles() -> None:
    assert not has_oversized_tiles(samples.encode(Image.new('L', (8, 8)), 'TIFF'))


# -- AVIF ---------------------------------------------------------------------------


def test_damaged_exif_of_avif() -> None:
    data = samples.encode(samples.soft(32, 24), 'AVIF', exif=samples.exif())
    at = data.rindex(b'II*\0' if b'II*\0' in data else b'MM\0*')
    damaged = data[:at] + b'damaged!' + data[at + 8 :]
    picture = parse(damaged)
    assert samples.decode(picture.data).tobytes() == samples.decode(data).tobytes()
