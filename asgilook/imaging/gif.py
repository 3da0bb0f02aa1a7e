"""GIF blocks (GIF89a, appendix A): extracts the first frame."""

from __future__ import annotations

from ..models import CheckDeadline

_SCREEN_SIZE, _FRAME_HEADER_SIZE = 13, 10
_EXTENSION, _CONTROL, _IMAGE, _TRAILER = b'!', b'\xf9', b',', b';'


def first_frame(data: bytes, check_deadline: CheckDeadline) -> bytes:
    """Return a GIF of the first frame only, without comments.

    Raises IndexError if there is no frame. A truncated frame stays truncated.
    """
    start = position = _SCREEN_SIZE + _table_size(data[10])
    control = b''
    while data[position : position + 1] == _EXTENSION:
        check_deadline()
        end = _skip_blocks(data, position + 2, check_deadline)
        if data[position + 1 : position + 2] == _CONTROL:
            control = data[position:end]
        position = end
    if data[position : position + 1] != _IMAGE:
        raise IndexError('a GIF without a frame')
    pixels = position + _FRAME_HEADER_SIZE + _table_size(data[position + 9])
    end = _skip_blocks(data, pixels + 1, check_deadline)
    return b''.join([data[:start], control, data[position:end], _TRAILER])


def _table_size(flags: int) -> int:
    """Return the length of the color table that these flags announce, in bytes."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _skip_blocks(data: bytes, position: int, check_deadline: CheckDeadline) -> int:
    """Return the end of a chain of blocks; each begins with its length."""
    while position < len(data) and data[position]:
        check_deadline()
        position += 1 + data[position]
    return position + 1
