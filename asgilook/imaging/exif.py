"""EXIF: the one tag that changes pixels, read without trust in the others."""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
# BYTE, SHORT and LONG (Exif 2.32, section 4.6.2); it should be a SHORT.
_FORMATS = {1: 'B', 3: 'H', 4: 'I'}


def orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8; whatever is damaged or absurd counts as 1."""
    while exif.startswith(b'Exif\0\0'):
        exif = exif[6:]
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None:
        return 1
    try:
        value = _find(exif, order)
    except struct.error:
        return 1
    return value if 1 <= value <= 8 else 1


def _find(tiff: bytes, order: str) -> int:
    (at,) = struct.unpack_from(order + 'I', tiff, 4)
    (count,) = struct.unpack_from(order + 'H', tiff, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + 'HH', tiff, entry)
        if tag == _ORIENTATION and kind in _FORMATS:
            value: int = struct.unpack_from(order + _FORMATS[kind], tiff, entry + 8)[0]
            return value
    return 1
