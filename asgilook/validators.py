"""Parsers of settings: each turns text into a value, or raises ValueError."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

MAX_INTEGER = 2**53
MAX_THREADS = 256

_UNITS = {None: 1, 'KiB': 1024, 'MiB': 1024**2, 'GiB': 1024**3}
# No more digits than MAX_INTEGER has: Python does not convert very long numbers.
_DIGITS = '0*([0-9]{1,16})'


def printable(value: str) -> str:
    """Return any text without control characters, such as line breaks."""
    if re.search(r'[\x00-\x1f\x7f]', value):
        raise ValueError('must be text without control characters')
    return value


def text(value: str) -> str:
    """Return any text."""
    return value


def tokens(value: str) -> str | None:
    """Return comma-separated bearer tokens, or None for `none`."""
    if value.lower() == 'none':
        return None
    if not value.isascii() or not value.isprintable() or not value.strip(', '):
        raise ValueError('must be one or more tokens of ASCII characters, or none')
    return value


def integer(minimum: int, maximum: int = MAX_INTEGER) -> Callable[[str], int]:
    """Return a parser of whole numbers in a range."""

    def parse(value: str) -> int:
        match = re.fullmatch(_DIGITS, value)
        if not match or not minimum <= int(match[1]) <= maximum:
            raise ValueError(f'must be a whole number from {minimum} to {maximum}')
        return int(match[1])

    return parse


def size(value: str) -> int:
    """Parse a number of bytes, such as `512 KiB`."""
    match = re.fullmatch(f'{_DIGITS} ?([KMG]iB)?', value)
    if not match or int(match[1]) * _UNITS[match[2]] > MAX_INTEGER:
        raise ValueError('must be a number of bytes, such as 4096, 512 KiB or 1 MiB')
    return int(match[1]) * _UNITS[match[2]]


def seconds(value: str) -> float:
    """Parse a duration of at most a day, in seconds."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86400:
        raise ValueError(
            'must be a number of seconds without a unit, above 0 and at most 86400'
        )
    return number


def threads(value: str) -> int:
    """Parse a number of threads."""
    if value == 'number of CPUs':
        return min(os.cpu_count() or 1, MAX_THREADS)
    return integer(1, MAX_THREADS)(value)


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts only these words."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f'must be one of {", ".join(words)}')
        return value

    return parse


def origins(value: str) -> str | list[str] | None:
    """Parse `*`, `none`, or comma-separated origins (RFC 6454)."""
    if value in ('none', '*'):
        return None if value == 'none' else value
    found = [origin.strip() for origin in value.split(',')]
    for origin in found:
        if not re.fullmatch(r'https?://[A-Za-z0-9._:\[\]-]+', origin):
            raise ValueError(
                'must be *, none, or comma-separated origins such as https://example.com'
            )
    return found
