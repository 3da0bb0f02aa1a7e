"""PNG chunks (ISO/IEC 15948): separates pixels from metadata."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..models import CheckDeadline

MAGIC = b'\x89PNG\r\n\x1a\n'

_MAX_PROFILE_SIZE = 1 << 22
_GRAY, _RGB = 0, 2


@dataclass
class Chunks:
    """The contents of a PNG.

    `header` holds the whole chunks that precede the pixels, `pixels` the joined
    contents of all IDAT chunks.
    """

    header: list[bytes] = field(default_factory=list)
    pixels: bytearray = field(default_factory=bytearray)
    exif: bytes = b''
    profile: bytes = b''

    def join(self) -> bytes:
        """Return a PNG with a single IDAT chunk and without metadata."""
        pixels = _chunk(b'IDAT', bytes(self.pixels))
        return b''.join([MAGIC, *self.header, pixels, _chunk(b'IEND', b'')])


def parse(data: bytes, check_deadline: CheckDeadline) -> Chunks:
    """Return the chunks of a PNG; raise ValueError if IEND is missing.

    Pillow accepts a file without IEND. Checksums are left to the decoder.
    """
    chunks = Chunks()
    depth, color_type = 8, _RGB
    for name, start, end in _split(data, check_deadline):
        body = data[start + 8 : end - 4]
        match name:
            case b'IDAT':
                chunks.pixels += body
            case b'IHDR':
                depth, color_type = data[start + 16], data[start + 17]
                chunks.header.append(data[start:end])
            case b'tRNS' if color_type in (_GRAY, _RGB):
                samples = _as_decoded(body, depth, color_type)
                chunks.header.append(_chunk(name, samples))
            case b'PLTE' | b'tRNS':
                chunks.header.append(data[start:end])
            case b'eXIf':
                chunks.exif = body
            case b'iCCP':
                chunks.profile = _decompress(body)
    return chunks


def _split(
    data: bytes, check_deadline: CheckDeadline
) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of every chunk before IEND."""
    start = len(MAGIC)
    while start + 8 <= len(data):
        check_deadline()
        length, name = struct.unpack_from('>I4s', data, start)
        if name == b'IEND':
            return
        end = start + 12 + length
        yield name, start, end
        start = end
    raise ValueError('a truncated PNG')


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(name))
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', checksum)


def _as_decoded(body: bytes, depth: int, color_type: int) -> bytes:
    """Return the transparent color, scaled as Pillow scales the samples.

    Pillow compares it unscaled, although it stretches gray samples of 2 and 4 bits to
    8 bits, and keeps the upper 8 bits of RGB samples of 16.
    """
    samples = struct.unpack(f'>{len(body) // 2}H', body[: len(body) // 2 * 2])
    if color_type == _GRAY and depth in (2, 4):
        samples = tuple(sample * 255 // (2**depth - 1) & 0xFFFF for sample in samples)
    elif color_type == _RGB and depth == 16:
        samples = tuple(sample >> 8 for sample in samples)
    return struct.pack(f'>{len(samples)}H', *samples)


def _decompress(body: bytes) -> bytes:
    """Return the ICC profile of an iCCP chunk; empty if damaged or too large."""
    _, _, packed = body.partition(b'\0')
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(packed[1:], _MAX_PROFILE_SIZE)
    except zlib.error:
        return b''
    return profile if decompressor.eof else b''
