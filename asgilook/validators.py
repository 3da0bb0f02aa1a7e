"""What a setting may be: text from the environment in, a value or ValueError out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import SplitResult, unquote, urlsplit

from . import backend_urls as redis_servers

_UNITS = {None: 1, 'KiB': 1024, 'MiB': 1024**2, 'GiB': 1024**3}

# Names of buckets that work with every S3, as AWS has them.
_BUCKET = re.compile('[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]')

_S3_OPTIONS = ('endpoint', 'region', 'access_key_id', 'secret_access_key')


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


def redis_url(value: str) -> str | None:
    """Parse the URL of a Redis, or none."""
    if value.lower() == 'none':
        return None
    if redis_servers.is_many(value):
        redis_servers.parse(value)  # raises ValueError for what it can't be
        return value
    parts = _split(value)
    if parts.scheme not in ('redis', 'rediss', 'unix'):
        raise ValueError(
            'must be redis://, rediss://, unix://, redis+sentinel://, '
            'redis+cluster:// or none'
        )
    if parts.scheme != 'unix' and not re.fullmatch('/?[0-9]{0,4}', parts.path):
        raise ValueError('its path can only be the number of a database')
    return value


def database_url(value: str) -> str | None:
    """Parse the URL of a database, or none."""
    if value.lower() == 'none':
        return None
    parts = _split(value)
    database = parts.path.removeprefix('/')
    if parts.scheme == 'postgresql' and parts.hostname and not parts.fragment:
        if database and '/' not in database:
            return value
    elif parts.scheme == 'sqlite' and _is_path(value):
        return value
    raise ValueError(
        'must be postgresql://user:password@host/database, '
        'sqlite:///absolute/path, or none'
    )


def storage_url(value: str) -> str | None:
    """Parse the URL of a folder or of a bucket, or none."""
    if value.lower() == 'none':
        return None
    parts = _split(value)
    if parts.scheme == 's3' and not parts.fragment:
        if not _BUCKET.fullmatch(parts.netloc):
            raise ValueError('must name a bucket, as in s3://bucket/prefix')
        _check_endpoint(s3_options(value).get('endpoint', 'https://aws'))
    elif parts.scheme != 'file' or not _is_path(value):
        raise ValueError('must be s3://bucket/prefix, file:///path, or none')
    return value


def _is_path(url: str) -> bool:
    """Tell whether a URL is but an absolute path, other than the root."""
    return bool(re.fullmatch('[a-z]+:///[^?#]*[^?#/][^?#]*', url))


def s3_options(url: str) -> dict[str, str]:
    """Return the options in the query of an s3:// URL; raises ValueError."""
    options: dict[str, str] = {}
    for option in filter(None, urlsplit(url).query.split('&')):
        name, _, quoted = option.partition('=')
        if name not in _S3_OPTIONS or name in options or not quoted:
            raise ValueError(f'may have once each of {", ".join(_S3_OPTIONS)}')
        options[name] = unquote(quoted)
    if ('access_key_id' in options) != ('secret_access_key' in options):
        raise ValueError('must have both of access_key_id and secret_access_key')
    return options


def _check_endpoint(value: str) -> None:
    parts = _split(value)
    if parts.scheme not in ('http', 'https') or not parts.hostname or '@' in value:
        raise ValueError('must have an http:// or https:// URL as its endpoint')


def _split(value: str) -> SplitResult:
    """Split a URL; in no error is a part of it, which may be of a password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError('must be a URL, with a number as its port') from None
    return parts
