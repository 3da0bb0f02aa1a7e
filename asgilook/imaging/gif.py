"""GIF's blocks (GIF89a, appendix A): the first frame, apart from all the rest."""

from __future__ import annotations

from collections.abc import Callable

_SCREEN, _FRAME = 13, 10
_EXTENSION, _CONTROL, _IMAGE = b'!', b'\xf9', b','


def first_frame(data: bytes, check: Callable[[], None]) -> bytes:
    """Return a GIF of the first frame only, without comments.

    Raises IndexError if there is none; a frame that is cut short stays so.
    """
    start = at = _SCREEN + _table_size(data[10])
    control = b''
    while data[at : at + 1] == _EXTENSION:
        end = _skip_blocks(data, at + 2, check)
        if data[at + 1 : at + 2] == _CONTROL:
            control = data[at:end]
        at = end
    if data[at : at + 1] != _IMAGE:
        raise IndexError('a GIF without a frame')
    end = _skip_blocks(data, at + _FRAME + _table_size(data[at + 9]) + 1, check)
    return b''.join([data[:start], control, data[at:end], b';'])


def _table_size(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _skip_blocks(data: bytes, at: int, check: Callable[[], None]) -> int:
    """Return where a chain of blocks ends, each of them led by its size."""
    while at < len(data) and data[at]:
        check()
        at += 1 + data[at]
    return at + 1
