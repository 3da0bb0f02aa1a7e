"""JPEG markers (ITU-T T.81, annex B): sizes and segments, without decoding."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ..models import CheckDeadline, Size

SOI, EOI, SCAN = b'\xff\xd8', b'\xff\xd9', b'\xff\xda'
SOF0, DHT, SOS, DQT, DRI = 0xC0, 0xC4, 0xDA, 0xDB, 0xDD
APP0, APP1, APP2, APP14, APP15, COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE

# DHT, JPG and DAC have numbers in the range of the frame headers.
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
# Markers without a length.
BARE = frozenset({0x00, 0x01, *range(0xD0, SOS)})
# Metadata, except JFIF (APP0), Adobe's color transform (APP14), EXIF, ICC profiles.
UNUSED = frozenset({*range(APP0, APP15 + 1), COM}) - {APP0, APP1, APP2, APP14}

JFIF = bytes.fromhex('ffe0 0010 4a46494600 0101 00 0001 0001 00 00')
EXIF = b'Exif\0\0'
ICC = b'ICC_PROFILE\0'

# Replaces the EOI of a scan while it is decoded. At an EOI, libjpeg completes a
# truncated scan with zeros and only warns; after these invalid codes it asks for more
# data, and Pillow reports that the file is truncated.
PADDING = b'\xff\0' * 8

_BLOCK_SIZE = 4096
_MAX_SEGMENTS = 1000
# Segments and fill bytes before the frame header of a stored file.
_MAX_MARKERS = 10_000
_FILL = 0xFF
# No marker has this number: bytes between two segments.
_JUNK = -1

_unpack_frame = struct.Struct('>BBHBHH').unpack_from
_unpack_segment = struct.Struct('>BBH').unpack_from
# In a scan FF is data before 00, a restart before D0 to D7, a fill byte before FF.
_find_marker = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]').search


@dataclass
class Header:
    """What precedes the first scan, and the position of that scan.

    `segments` holds (marker, bytes with marker and length) of everything except
    metadata. `is_well_formed` is false if there are bytes between the segments.
    """

    segments: list[tuple[int, bytes]] = field(default_factory=list)
    exif: bytes = b''
    profiles: list[bytes] = field(default_factory=list)
    scan: int = 0
    is_well_formed: bool = True

    @property
    def profile(self) -> bytes:
        """The ICC profile, joined from its APP2 segments (ICC.1, annex B)."""
        parts = sorted(self.profiles)
        count = len(parts)
        if any(part[:2] != bytes((n, count)) for n, part in enumerate(parts, 1)):
            return b''
        return b''.join(part[2:] for part in parts)

    def add(self, marker: int, segment: bytes) -> None:
        """Add a segment; raise ValueError if there are too many."""
        content = segment[4:]
        if marker == APP1 and content.startswith(EXIF):
            self.exif = self.exif or content
        elif marker == APP2 and content.startswith(ICC):
            if len(self.profiles) < 0xFF:
                self.profiles.append(content[len(ICC) :])
        elif marker not in (APP1, APP2):
            self.segments.append((marker, segment))
            if len(self.segments) > _MAX_SEGMENTS:
                raise ValueError('a JPEG with too many tables')


def read_size(file: BinaryIO) -> Size:
    """Return (width, height) from the frame header; raise ValueError without one.

    A file without metadata takes a single read of 4 KiB, any other at most as many
    reads as it has segments.
    """
    block, position = file.read(_BLOCK_SIZE), 2
    if block[:2] != SOI:
        raise ValueError('not a JPEG file')
    for _ in range(_MAX_MARKERS):
        if position + 9 > len(block):
            file.seek(position - len(block), os.SEEK_CUR)
            block, position = file.read(_BLOCK_SIZE), 0
        try:
            prefix, marker, length, _, height, width = _unpack_frame(block, position)
        except struct.error:
            raise ValueError('a JPEG without a frame header') from None
        if prefix == marker == _FILL:
            position += 1
            continue
        if prefix != 0xFF or marker in BARE or marker == SOS or length < 2:
            raise ValueError('a JPEG with a damaged header')
        if marker in FRAMES:
            if not width or not height:
                raise ValueError('a JPEG without a size')
            return width, height
        position += 2 + length
    raise ValueError('a JPEG with too many segments')


def parse(data: bytes, check_deadline: CheckDeadline) -> Header:
    """Return what precedes the first scan; raise ValueError if there is no scan."""
    header = Header()
    for marker, start, end in _segments(data, check_deadline):
        if marker == SOS:
            header.scan = start
            return header
        if marker == _JUNK:
            header.is_well_formed = False
        elif marker not in UNUSED:
            header.add(marker, data[start:end])
    raise ValueError('a JPEG without a scan')


def _segments(
    data: bytes, check_deadline: CheckDeadline
) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment, and of the junk between them."""
    start = len(SOI)
    while start + 4 <= len(data):
        check_deadline()
        prefix, marker, length = _unpack_segment(data, start)
        if prefix != 0xFF or marker in BARE or length < 2:
            marker, end = _JUNK, data.find(b'\xff', start + 1)
            if end < 0:
                return
        elif marker == _FILL:
            start += 1
            continue
        else:
            end = start + 2 + length
        yield marker, start, end
        start = end


def without_metadata(data: bytes, header: Header) -> bytes:
    """Return the first image of a file, with everything that its decoding needs."""
    tables = b''.join(segment for _, segment in header.segments)
    frame = next((part for marker, part in header.segments if marker in FRAMES), b'')
    end = data.find(EOI, header.scan)
    scans = data[header.scan : end if end >= 0 else None]
    # A decoder needs the EOI only if more scans may follow the first one.
    if frame[1:2] in (b'\xc0', b'\xc1') and frame[9:10] == scans[4:5]:
        return b''.join([SOI, tables, scans, PADDING])
    return b''.join([SOI, tables, scans, EOI if end >= 0 else b''])


def count_scans(data: bytes) -> int:
    """Return the number of scans of a file without metadata."""
    return data.count(SCAN)


def rewrite(data: bytes, header: Header) -> bytes | None:
    """Return the same image without metadata and EOI; None if that may change it.

    Accepted is a baseline image with one scan, gray or YCbCr, whose colors are not
    changed by APP14 or by unusual component ids. The scan itself is not checked: it is
    whole if the result, with padding in place of the EOI, can be decoded.
    """
    kept = [(marker, part) for marker, part in header.segments if marker != APP0]
    frames = [part for marker, part in kept if marker == SOF0]
    markers = {marker for marker, _ in kept}
    if not header.is_well_formed or len(frames) != 1:
        return None
    if markers - {DRI} != {SOF0, DHT, DQT}:
        return None
    scan = _only_scan(data, header.scan, frames[0])
    if scan is None:
        return None
    return b''.join([SOI, JFIF, *(part for _, part in kept), scan, PADDING])


def finish(rewritten: bytes) -> tuple[memoryview, bytes]:
    """Return a rewritten file in two parts: all but its padding, and an EOI."""
    return memoryview(rewritten)[: -len(PADDING)], EOI


def _only_scan(data: bytes, start: int, frame: bytes) -> memoryview | None:
    """Return the scan up to its EOI if it holds all components of the frame."""
    if len(frame) < 10:
        return None
    bits, height, width, count = struct.unpack_from('>BHHB', frame, 4)
    if bits != 8 or not height or not width or len(frame) != 10 + 3 * count:
        return None
    if count != 1 and frame[10::3] != b'\x01\x02\x03':
        return None
    if data[start + 2 : start + 5] != bytes((0, 6 + 2 * count, count)):
        return None
    end = _find_marker(data, start + 8 + 2 * count)
    return memoryview(data)[start : end.start()] if end and end[0] == EOI else None
