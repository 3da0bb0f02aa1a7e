"""Parsers of settings: text from the environment to a value, or ValueError."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

_UNITS = {None: 1, 'KiB': 1024, 'MiB': 1024**2, 'GiB': 1024**3}


def text(value: str) -> str:
    """Parse anything."""
    return value


def optional_text(value: str) -> str | None:
    """Parse anything, or none."""
    return None if value.lower() == 'none' else value


def integer(least: int, most: int = 2**53) -> Callable[[str], int]:
    """Make a parser of whole numbers."""

    def parse(value: str) -> int:
        if not re.fullmatch(r'[0-9]+', value) or not least <= int(value) <= most:
            raise ValueError(f'must be a whole number from {least} to {most}')
        return int(value)

    return parse


def size(value: str) -> int:
    """Parse bytes, such as `512 KiB`."""
    match = re.fullmatch(r'([0-9]+) ?([KMG]iB)?', value)
    if not match:
        raise ValueError('must be a number of bytes, such as 4096, 512 KiB or 1 MiB')
    return int(match[1]) * _UNITS[match[2]]


def seconds(value: str) -> float:
    """Parse seconds, up to a day."""
    number = float(value)
    if not 0 < number <= 86400:
        raise ValueError('must be seconds, more than 0 and at most 86400')
    return number


def threads(value: str) -> int:
    """Parse a number of threads."""
    return os.cpu_count() or 1 if value == 'number of CPUs' else integer(1, 256)(value)


def one_of(*words: str) -> Callable[[str], str]:
    """Make a parser of these words alone."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f'must be one of {", ".join(words)}')
        return value

    return parse


def origins(value: str) -> str | list[str] | None:
    """Parse `*`, or origins such as `https://example.com` between commas (RFC 6454)."""
    if value in ('none', '*'):
        return None if value == 'none' else value
    found = [origin.strip() for origin in value.split(',')]
    for origin in found:
        if not re.fullmatch(r'https?://[^/\s]+', origin):
            raise ValueError('must be *, none, or origins between commas')
    return found
