"""Small files that take much memory or time to decode."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

from tests.samples import chunk, encode, insert, segment


def gif_pixels(side: int = 28_000) -> bytes:
    """Return 35 bytes with a first frame of `side` x `side` pixels."""
    screen = b'GIF89a' + struct.pack('<HHBBB', side, side, 0, 0, 0)
    frame = b',' + struct.pack('<HHHHB', 0, 0, side, side, 0)
    return (screen + frame + b'\x02\x02\x44\x01\x00;').ljust(35, b'\0')


def webp_pixels(side: int = 16_383) -> bytes:
    """Return an animation of one pixel on a canvas of `side` x `side`."""
    picture = encode(Image.new('RGBA', (1, 1)), 'WEBP', lossless=True)[12:]
    canvas = b'\x02\0\0\0' + 2 * struct.pack('<I', side - 1)[:3]
    frame = bytes(15) + b'\0' + picture
    body = b'WEBP' + b''.join(
        name + struct.pack('<I', len(content)) + content
        for name, content in ((b'VP8X', canvas), (b'ANIM', bytes(6)), (b'ANMF', frame))
    )
    return b'RIFF' + struct.pack('<I', len(body)) + body


def png_pixels(side: int = 9_000) -> bytes:
    """Return gray pixels of 16 bits, all of them black."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 2 * side)
    rows = b''.join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = struct.pack('>IIBBBBB', side, side, 16, 0, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', rows), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*each) for each in chunks)


def jpeg_pixels(side: int = 9_000) -> bytes:
    """Return a JPEG of one block that claims to be `side` x `side`."""
    return resized(encode(Image.new('RGB', (8, 8)), 'JPEG'), side, side)


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """Return a JPEG with another size in its frame header."""
    at = max(jpeg.find(b'\xff\xc0'), jpeg.find(b'\xff\xc2'))
    return jpeg[: at + 5] + struct.pack('>HH', height, width) + jpeg[at + 9 :]


def scans(count: int = 1000, side: int = 4000) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    jpeg = encode(Image.new('L', (side, side)), 'JPEG', progressive=True)
    last = jpeg.rindex(b'\xff\xda')
    return (
        jpeg[:last] + jpeg[last:-2] * (count - jpeg.count(b'\xff\xda') + 1) + jpeg[-2:]
    )


def chunks(count: int = 200_000, name: bytes = b'tEXt', size: int = 0) -> bytes:
    """Return a PNG with many small chunks before its end."""
    png = encode(Image.new('L', (8, 8)), 'PNG')
    return png[:-12] + chunk(name, bytes(size)) * count + png[-12:]


def comments(count: int = 500_000) -> bytes:
    """Return a JPEG with `count` empty comments."""
    return insert(encode(Image.new('L', (8, 8)), 'JPEG'), segment(0xFE, b'') * count)


def frames(count: int = 100_000) -> bytes:
    """Return a GIF of as many frames."""
    gif = encode(Image.new('L', (8, 8)), 'GIF')
    frame = gif[gif.index(b',') : -1]
    return gif[:-1] + frame * (count - 1) + gif[-1:]


def blocks(count: int = 2_000_000) -> bytes:
    """Return a GIF with a comment in as many blocks."""
    gif = encode(Image.new('L', (8, 8)), 'GIF')
    at = gif.index(b',')
    return gif[:at] + b'!\xfe' + b'\x01x' * count + b'\0' + gif[at:]


def directory(*entries: tuple[int, int, int, int], data: bytes = b'') -> bytes:
    """Return a TIFF of these (tag, type, count, value), and data from byte 1024 on."""
    head = b'II*\0' + struct.pack('<IH', 8, len(entries))
    tags = b''.join(struct.pack('<HHII', *entry) for entry in sorted(entries))
    return (head + tags + bytes(4)).ljust(1024, b'\0') + data


def strips(count: int = 4_000_000) -> bytes:
    """Return a TIFF of 8 x 8 pixels with as many strips of nothing."""
    return directory(
        *((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1)),
        *((277, 3, 1, 1), (278, 4, 1, 1), (273, 3, count, 1024)),
        data=bytes(2 * count),
    )


def tiles(width: int = 8, height: int = 8, tile: int = 20_000) -> bytes:
    """Return a TIFF whose only tiles, deflated, are much larger than the picture."""
    packer = zlib.compressobj(1)
    row = bytes(tile)
    data = b''.join([*(packer.compress(row) for _ in range(tile)), packer.flush()])
    return directory(
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8)),
        *((262, 3, 1, 1), (277, 3, 1, 1), (322, 4, 1, tile), (323, 4, 1, tile)),
        *((324, 4, 1, 1024), (325, 4, 1, len(data))),
        data=data,
    )
