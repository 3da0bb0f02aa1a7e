"""PNG's chunks (ISO/IEC 15948): what decoding needs, apart from all the rest."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

MAGIC = b'\x89PNG\r\n\x1a\n'

_MAX_PROFILE = 1 << 22


@dataclass
class Chunks:
    """The chunks of a PNG; `picture` are those before the pixels, `pixels` IDAT's."""

    picture: list[bytes] = field(default_factory=list)
    pixels: bytearray = field(default_factory=bytearray)
    exif: bytes = b''
    profile: bytes = b''

    def join(self) -> bytes:
        """Return a PNG of a single IDAT, without anything that pixels don't need."""
        pixels = _chunk(b'IDAT', bytes(self.pixels))
        return b''.join([MAGIC, *self.picture, pixels, _chunk(b'IEND', b'')])


def parse(data: bytes, check: Callable[[], None]) -> Chunks:
    """Take a PNG apart; raise ValueError where its end is missing.

    Pillow doesn't miss it. Checksums are left to the decoder.
    """
    chunks, at, depth, colour = Chunks(), len(MAGIC), 8, 2
    while at + 8 <= len(data):
        check()
        length, name = struct.unpack_from('>I4s', data, at)
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        if name == b'IHDR':
            depth, colour = data[at + 16], data[at + 17]
        if name == b'IDAT':
            chunks.pixels += body
        elif name == b'tRNS' and colour in (0, 2):
            chunks.picture.append(_chunk(name, _as_decoded(body, depth, colour)))
        elif name in (b'IHDR', b'PLTE', b'tRNS'):
            chunks.picture.append(data[at:end])
        elif name == b'eXIf':
            chunks.exif = body
        elif name == b'iCCP':
            chunks.profile = _inflate(body)
        elif name == b'IEND':
            return chunks
        at = end
    raise ValueError('cut off')


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(name))
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', checksum)


def _as_decoded(body: bytes, depth: int, colour: int) -> bytes:
    """Return the transparent colour in the samples that Pillow makes of a file's.

    Pillow compares it as it stands, although it stretches grey of 2 and 4 bits to
    8, and keeps of colours of 16 bits the upper 8.
    """
    samples = struct.unpack(f'>{len(body) // 2}H', body[: len(body) // 2 * 2])
    if colour == 0 and depth in (2, 4):
        samples = tuple(sample * 255 // (2**depth - 1) & 0xFFFF for sample in samples)
    elif colour == 2 and depth == 16:
        samples = tuple(sample >> 8 for sample in samples)
    return struct.pack(f'>{len(samples)}H', *samples)


def _inflate(body: bytes) -> bytes:
    """Return the ICC profile of an iCCP chunk, or nothing if it is damaged."""
    _, _, packed = body.partition(b'\0')
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(packed[1:], _MAX_PROFILE)
    except zlib.error:
        return b''
    return profile if decompressor.eof else b''
