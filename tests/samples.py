"""Pictures generated in code, so that the tests need no binary files."""

from __future__ import annotations

import io
import math
import random
import struct
import zlib
from itertools import product
from typing import Any, TypeVar

from PIL import Image, ImageCms, ImageFilter

Plugin = TypeVar('Plugin', bound=Image.Image)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()

GPS = b'52.5200N 13.4050E'
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">taken by Ada</x:xmpmeta>'
COMMENT = b'nobody needs to know this'
TRAILER = b'a film of one second' * 50_000

# Red, green, blue, black in the corners: no two orientations look alike.
CORNERS = {(0, 0): 'red', (1, 0): 'green', (0, 1): 'blue', (1, 1): 'black'}


def encode(image: Image.Image, format_: str, **save_options: Any) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format_, **save_options)
    return file.getvalue()


def decode(data: bytes) -> Image.Image:
    """Return all the pixels of a file."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def decode_as(plugin: type[Plugin], data: bytes) -> Plugin:
    """Return all the pixels of a file, and what only this plugin reports."""
    image = decode(data)
    assert isinstance(image, plugin)
    return image


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture with the soft and sharp edges and the grain of a photo."""
    rng = random.Random(seed)
    small = Image.frombytes('RGB', (16, 12), rng.randbytes(16 * 12 * 3))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(12):
        x, y = rng.randrange(width), rng.randrange(height)
        red, green, blue = rng.randbytes(3)
        image.paste((red, green, blue), (x, y, x + width // 6 + 1, y + height // 6 + 1))
    grain = Image.frombytes('RGB', (256, 256), rng.randbytes(256 * 256 * 3))
    grain = grain.filter(ImageFilter.BoxBlur(1)).resize((width, height))
    return Image.blend(image, grain, 0.08)


def soft(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture without edges, which JPEG hardly changes."""
    few = Image.frombytes('RGB', (4, 3), random.Random(seed).randbytes(36))
    return few.resize((width, height), Image.Resampling.BICUBIC)


def photo(width: int, height: int, seed: int = 0, **save_options: Any) -> bytes:
    """Return a JPEG that looks like a photo."""
    return encode(scene(width, height, seed), 'JPEG', **save_options)


def png(
    width: int, height: int, mode: str = 'RGB', seed: int = 0, **save_options: Any
) -> bytes:
    """Return a PNG of any mode that Pillow writes."""
    return encode(scene(width, height, seed).convert(mode), 'PNG', **save_options)


def corners(width: int, height: int) -> Image.Image:
    """Return a picture in four colors: see CORNERS."""
    image = Image.new('RGB', (width, height))
    for (x, y), color in CORNERS.items():
        image.paste(color, (x * width // 2, y * height // 2, width, height))
    return image


def ramp(mode: str = 'L', top: float = 255) -> Image.Image:
    """Return 256 columns, 16 high, from 0 to `top`, in a mode of one channel."""
    image = Image.new(mode, (256, 16))
    for x, y in product(range(256), range(16)):
        value = top * x / 255
        image.putpixel((x, y), value if mode == 'F' else round(value))
    return image


def exif(orientation: int = 1) -> bytes:
    """Return EXIF with a GPS position."""
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010E] = GPS.decode()
    data.get_ifd(0x8825)[1] = 'N'
    return data.tobytes()


def camera(image: Image.Image, orientation: int = 1, **save_options: Any) -> bytes:
    """Return a JPEG like those of cameras: every kind of metadata, and a trailer."""
    save_options = {'icc_profile': SRGB, 'quality': 92} | save_options
    data = encode(
        image,
        'JPEG',
        exif=exif(orientation),
        xmp=XMP,
        comment=COMMENT,
        **save_options,
    )
    return data + TRAILER


def mpo(width: int, height: int) -> bytes:
    """Return a Multi-Picture Object: a photo and a second, red one behind it."""
    second = Image.new('RGB', (width, height), 'red')
    return encode(scene(width, height), 'MPO', save_all=True, append_images=[second])


def animation(format_: str, first: str = 'lime') -> bytes:
    """Return a GIF, PNG or WebP of three frames of plain color."""
    frames = [Image.new('RGB', (48, 32), name) for name in (first, 'red', 'blue')]
    return encode(
        frames[0],
        format_,
        save_all=True,
        append_images=frames[1:],
        duration=40,
        **({'lossless': True} if format_ == 'WEBP' else {}),
    )


# -- ICC profiles -----------------------------------------------------------------

ADOBE_RGB = (
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (
        0.14919,
        0.06322,
        0.74457,
    ),
)
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (
        0.15710,
        0.06657,
        0.78407,
    ),
)
_WHITE = 0.9642, 1.0, 0.8249  # D50


def profile(primaries: tuple[tuple[float, ...], ...], gamma: float = 2.2) -> bytes:
    """Return an RGB profile of three primaries (XYZ, adapted to D50) and a gamma."""
    tags = {f'{name}TRC': _curve(gamma) for name in 'rgb'}
    tags |= {f'{n}XYZ': _xyz(p) for n, p in zip('rgb', primaries, strict=True)}
    return _profile(b'mntr', b'RGB ', b'XYZ ', tags)


def gray_profile(gamma: float) -> bytes:
    """Return a profile of one channel."""
    return _profile(b'mntr', b'GRAY', b'XYZ ', {'kTRC': _curve(gamma)})


def cmyk_profile() -> bytes:
    """Return a profile of inks: magenta is (50, 80, -10) in Lab, and so forth."""
    inks = (60, -40, -50), (50, 80, -10), (90, -5, 90), (10, 0, 0)
    grid = bytearray()
    for amounts in product((0, 1), repeat=4):
        used = [ink for ink, amount in zip(inks, amounts, strict=True) if amount]
        lightness = 100 * math.prod(ink[0] / 100 for ink in used)
        a, b = (sum(ink[i] for ink in used) / max(1, len(used)) for i in (1, 2))
        grid += bytes((round(lightness * 2.55), round(a + 128), round(b + 128)))
    identity = bytes(range(256))
    unit = struct.pack('>9i', *(65536 * (i % 4 == 0) for i in range(9)))
    table = b'mft1\0\0\0\0' + bytes((4, 3, 2, 0)) + unit
    table += identity * 4 + bytes(grid) + identity * 3
    return _profile(b'prtr', b'CMYK', b'Lab ', {'A2B0': table})


def _curve(gamma: float) -> bytes:
    return b'curv\0\0\0\0' + struct.pack('>IH', 1, round(gamma * 256)) + b'\0\0'


def _xyz(values: tuple[float, ...]) -> bytes:
    return b'XYZ \0\0\0\0' + struct.pack('>3i', *(round(v * 65536) for v in values))


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[str, bytes]) -> bytes:
    tags = {'wtpt': _xyz(_WHITE), **tags}
    table, body = struct.pack('>I', len(tags)), b''
    for name, tag in tags.items():
        offset = 132 + 12 * len(tags) + len(body)
        table += struct.pack('>4sII', name.encode(), offset, len(tag))
        body += tag + bytes(-len(tag) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack('>I4sI4s4s4s', size, b'none', 0x02400000, kind, space, pcs)
    head += struct.pack('>6H', 2026, 1, 1, 0, 0, 0) + b'acsp'
    white = struct.pack('>3i', *(round(v * 65536) for v in _WHITE))
    return head.ljust(68, b'\0') + white + bytes(48) + table + body


# -- Files put together by hand ---------------------------------------------------


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content


def insert(jpeg: bytes, *segments: bytes) -> bytes:
    """Return a JPEG with more segments, behind its SOI."""
    return jpeg[:2] + b''.join(segments) + jpeg[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = struct.pack('>I', zlib.crc32(name + body))
    return struct.pack('>I', len(body)) + name + body + checksum


def insert_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with more chunks, behind its IHDR."""
    return png[:33] + b''.join(chunks) + png[33:]
