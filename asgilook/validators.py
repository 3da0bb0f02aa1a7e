"""What a setting may be: parsers of values, and suggestions for wrong names.

Each parser turns text into a value, or raises ValueError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

ENV_PREFIX = 'ASGI_LOOK_'

MAX_INTEGER = 2**53
MAX_THREADS = 256

_UNITS = {None: 1, 'KiB': 1024, 'MiB': 1024**2, 'GiB': 1024**3}
# No more digits than MAX_INTEGER has: Python does not convert very long numbers.
_DIGITS = '0*([0-9]{1,16})'

# Minimum similarity of names for a suggestion, from 0 to 1: that of `TOKEN` and
# `API_TOKEN` is 0.77.
_SIMILARITY = 0.6
# Command-line options, which are not settings.
_OPTIONS = ('host', 'port', 'workers')

_ORIGIN = re.compile(
    r'(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?',
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS = {'http': 80, 'https': 443}

_SECRET = re.compile('TOKEN|SECRET|PASS|KEY|AUTH|CREDENTIAL')


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
    return [_origin(origin.strip()) for origin in value.split(',')]


def _origin(value: str) -> str:
    """Return an origin as browsers send it: in lower case, without a default port."""
    match = _ORIGIN.fullmatch(value)
    if match is None:
        raise ValueError(
            'must be *, none, or comma-separated origins such as https://example.com'
        )
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    is_default = port is None or int(port) == _DEFAULT_PORTS[scheme]
    return f'{scheme}://{host}' + ('' if is_default else f':{int(port)}')


def misspelled(variables: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Return variables that are probably meant to be settings, and the right names.

    Their prefix is spelled differently, as in `ASGILOOK_API_TOKEN`.
    """
    prefixed = (name for name in variables if re.match('ASGI_?LOOK_', name.upper()))
    found = {
        name: _similar(name, known)
        for name in prefixed
        if not name.startswith(ENV_PREFIX)
    }
    return {name: similar[0] for name, similar in found.items() if similar}


def advice(name: str, known: Sequence[str]) -> str:
    """Return advice on what to use instead of an unknown variable."""
    option = name.removeprefix(ENV_PREFIX).lower()
    if option in _OPTIONS:
        return f'use the option --{option} of `asgilook serve`'
    if similar := _similar(name, known):
        return f'did you mean {" or ".join(similar)}?'
    return '`asgilook config` lists all settings'


def may_be_secret(name: str, known: Sequence[str]) -> bool:
    """Return whether an unknown variable may be a misspelled secret."""
    names = [name.upper(), *_similar(name, known)]
    return any(_SECRET.search(each) for each in names)


def _similar(name: str, known: Sequence[str]) -> list[str]:
    """Return up to three known variables, the most similar one first.

    These are the ones with the same first word, if there are any.
    """
    word = re.sub('^ASGI_?LOOK_?', '', name.upper())
    names = [each.removeprefix(ENV_PREFIX) for each in known]
    related = [each for each in names if each.split('_')[0] == word.split('_')[0]]
    cutoff = 0.0 if related else _SIMILARITY
    found = get_close_matches(word, related or names, 3, cutoff)
    return [ENV_PREFIX + each for each in found]
