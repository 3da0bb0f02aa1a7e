"""EXIF: reads the orientation, the only tag that changes pixels."""

from __future__ import annotations

import re
import struct

_ORIENTATION = 0x0112
# BYTE, SHORT and LONG (Exif 2.32, section 4.6.2); the standard asks for a SHORT.
_CODES = {1: 'B', 3: 'H', 4: 'I'}
# PERF: possessive, as some files repeat the identifier millions of times.
_replace_identifiers = re.compile(rb'\A(?:Exif\0\0)*+').sub


def orientation(exif: bytes) -> int:
    """Return the orientation, from 1 to 8; 1 if it is missing or invalid."""
    exif = _replace_identifiers(b'', exif, count=1)
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None:
        return 1
    try:
        value = _find(exif, order)
    except struct.error:
        return 1
    return value if 1 <= value <= 8 else 1


def _find(tiff: bytes, order: str) -> int:
    (directory,) = struct.unpack_from(order + 'I', tiff, 4)
    (count,) = struct.unpack_from(order + 'H', tiff, directory)
    start = directory + 2
    for entry in range(start, start + 12 * count, 12):
        tag, type_ = struct.unpack_from(order + 'HH', tiff, entry)
        if tag == _ORIENTATION and type_ in _CODES:
            value: int = struct.unpack_from(order + _CODES[type_], tiff, entry + 8)[0]
            return value
    return 1
