"""JPEG's markers (ITU-T T.81, annex B): sizes and segments, without any pixels."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from ..models import Size

SOI, EOI, SCAN = b'\xff\xd8', b'\xff\xd9', b'\xff\xda'
SOF0, DHT, SOS, DQT, DRI = 0xC0, 0xC4, 0xDA, 0xDB, 0xDD
APP0, APP1, APP2, APP14, APP15, COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE

# Frame headers share their numbers with DHT, JPG and DAC.
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
# Markers without a length.
BARE = frozenset({0x00, 0x01, *range(0xD0, SOS)})
# All metadata but JFIF (APP0), Adobe's colours (APP14), EXIF and ICC profiles.
UNUSED = frozenset({*range(APP0, APP15 + 1), COM}) - {APP0, APP1, APP2, APP14}

JFIF = bytes.fromhex('ffe0 0010 4a46494600 0101 00 0001 0001 00 00')
EXIF = b'Exif\0\0'
ICC = b'ICC_PROFILE\0'

# Behind a scan in place of its EOI. There libjpeg takes what a cut scan lacks for
# zeros, and no more than warns; here it reads on, codes that there are none of, and
# Pillow finds the file truncated.
PADDING = b'\xff\0' * 8

_HEAD = 4096
_MAX_SEGMENTS = 1000
# In a scan FF is data before 00, a restart before D0 to D7, a fill byte before FF.
_next_marker = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]').search


@dataclass
class Header:
    """What precedes the first scan, and where that scan begins.

    `segments` are (marker, bytes with marker and length) of all but metadata; `sound`
    is whether nothing else was found between them.
    """

    segments: list[tuple[int, bytes]] = field(default_factory=list)
    exif: bytes = b''
    profiles: list[bytes] = field(default_factory=list)
    scan: int = 0
    sound: bool = True

    @property
    def profile(self) -> bytes:
        """The ICC profile, put together from its APP2 segments (ICC.1, annex B)."""
        parts = sorted(self.profiles)
        count = len(parts)
        if any(part[:2] != bytes((n, count)) for n, part in enumerate(parts, 1)):
            return b''
        return b''.join(part[2:] for part in parts)


def read_size(file: BinaryIO) -> Size:
    """Return (width, height) from the frame header; raise ValueError without one.

    One read of a few KB is enough where no metadata comes first.
    """
    head, at = file.read(_HEAD), 2
    if head[:2] != SOI:
        raise ValueError('not a JPEG file')
    while True:
        if at + 9 > len(head):
            file.seek(at - len(head), os.SEEK_CUR)
            head, at = file.read(_HEAD), 0
        try:
            fill, marker, length, _, height, width = _frame(head, at)
        except struct.error:
            raise ValueError('a JPEG without a frame header') from None
        if fill == marker == 0xFF:
            at += 1
        elif fill != 0xFF or marker in BARE or marker == SOS or length < 2:
            raise ValueError('a JPEG with a damaged header')
        elif marker not in FRAMES:
            at += 2 + length
        elif width and height:
            return width, height
        else:
            raise ValueError('a JPEG without a size')


_frame = struct.Struct('>BBHBHH').unpack_from


def parse(data: bytes, check: Callable[[], None]) -> Header:
    """Take apart what comes before the first scan; raise ValueError without one."""
    header, at = Header(), 2
    while at + 4 <= len(data):
        check()
        fill, marker, length = _marker(data, at)
        if fill != 0xFF or marker in BARE or length < 2:
            header.sound = False
            at = data.find(b'\xff', at + 1) % (len(data) + 1)
        elif marker == 0xFF:
            at += 1
        elif marker == SOS:
            header.scan = at
            return header
        else:
            if marker not in UNUSED:
                _sort(header, marker, data[at : at + 2 + length])
            at += 2 + length
    raise ValueError('a JPEG without a scan')


_marker = struct.Struct('>BBH').unpack_from


def _sort(header: Header, marker: int, segment: bytes) -> None:
    content = segment[4:]
    if marker == APP1 and content.startswith(EXIF):
        header.exif = header.exif or content
    elif marker == APP2 and content.startswith(ICC):
        if len(header.profiles) < 0xFF:
            header.profiles.append(content[len(ICC) :])
    elif marker not in (APP1, APP2):
        header.segments.append((marker, segment))
        if len(header.segments) > _MAX_SEGMENTS:
            raise ValueError('a JPEG with too many tables')


def without_metadata(data: bytes, header: Header) -> bytes:
    """Return the first picture alone, with all that its decoding needs."""
    tables = b''.join(segment for _, segment in header.segments)
    frame = next((part for marker, part in header.segments if marker in FRAMES), b'')
    end = data.find(EOI, header.scan)
    scans = data[header.scan : end if end >= 0 else None]
    # Only where more scans may follow the first one does a decoder need an EOI.
    if frame[1:2] in (b'\xc0', b'\xc1') and frame[9:10] == scans[4:5]:
        return b''.join([SOI, tables, scans, PADDING])
    return b''.join([SOI, tables, scans, EOI if end >= 0 else b''])


def count_scans(data: bytes) -> int:
    """Return how many scans a file without metadata has, at the speed of C."""
    return data.count(SCAN)


def rewrite(data: bytes, header: Header) -> bytes | None:
    """Return the same picture without metadata and EOI, or None in any doubt.

    It takes a baseline picture with one scan, grey or YCbCr, whose colours no APP14
    and no unusual component numbers change. The scan itself is not looked into: it is
    whole if what is returned, padding in place of EOI, can be decoded.
    """
    kept = [(marker, part) for marker, part in header.segments if marker != APP0]
    frames = [part for marker, part in kept if marker == SOF0]
    markers = {marker for marker, _ in kept}
    if not header.sound or len(frames) != 1 or markers - {DRI} != {SOF0, DHT, DQT}:
        return None
    scan = _only_scan(data, header.scan, frames[0])
    if scan is None:
        return None
    return b''.join([SOI, JFIF, *(part for _, part in kept), scan, PADDING])


def ended(rewritten: bytes) -> tuple[memoryview, bytes]:
    """Return the two parts of a whole file: all but the padding, and an EOI."""
    return memoryview(rewritten)[: -len(PADDING)], EOI


def _only_scan(data: bytes, start: int, frame: bytes) -> memoryview | None:
    """Return the scan up to its EOI if it is all that the frame header announces."""
    if len(frame) < 10:
        return None
    bits, height, width, count = struct.unpack_from('>BHHB', frame, 4)
    if bits != 8 or not height or not width or len(frame) != 10 + 3 * count:
        return None
    if count != 1 and frame[10::3] != b'\x01\x02\x03':
        return None
    if data[start + 2 : start + 5] != bytes((0, 6 + 2 * count, count)):
        return None
    end = _next_marker(data, start + 8 + 2 * count)
    return memoryview(data)[start : end.start()] if end and end[0] == EOI else None
