"""The settings: one table that drives parsing, defaults, README and command line."""

from __future__ import annotations

import dataclasses
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aioredis

from . import redis_url

ENV_PREFIX = 'ASGI_LOOK_'
DEFAULT_STORAGE_PATH = '/tmp/asgilook'  # noqa: S108 (the tutorial's; warned about)

_UNITS = {None: 1, 'KiB': 1024, 'MiB': 1024**2, 'GiB': 1024**3}


class ConfigError(ValueError):
    """A setting can't be used; the message names the variable and its value."""


def _text(value: str) -> str:
    return value


def _optional_text(value: str) -> str | None:
    return None if value.lower() == 'none' else value


def _redis_url(value: str) -> str | None:
    if value.lower() == 'none':
        return None
    if redis_url.is_many(value):
        redis_url.parse(value)  # raises ValueError for what it can't be
        return value
    parts = urlsplit(value)
    if parts.scheme not in ('redis', 'rediss', 'unix'):
        raise ValueError(
            'must be redis://, rediss://, unix://, redis+sentinel://, '
            'redis+cluster:// or none'
        )
    _ = parts.port  # raises ValueError where it is no port
    return value


def _integer(least: int, most: int = 2**53) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r'[0-9]+', value) or not least <= int(value) <= most:
            raise ValueError(f'must be a whole number from {least} to {most}')
        return int(value)

    return parse


def _size(value: str) -> int:
    match = re.fullmatch(r'([0-9]+) ?([KMG]iB)?', value)
    if not match:
        raise ValueError('must be a number of bytes, such as 4096, 512 KiB or 1 MiB')
    return int(match[1]) * _UNITS[match[2]]


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 < number <= 86400:
        raise ValueError('must be seconds, more than 0 and at most 86400')
    return number


def _threads(value: str) -> int:
    return os.cpu_count() or 1 if value == 'number of CPUs' else _integer(1, 256)(value)


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f'must be one of {", ".join(words)}')
        return value

    return parse


def _origins(value: str) -> str | list[str] | None:
    """Parse `*`, or origins such as `https://example.com` between commas (RFC 6454)."""
    if value in ('none', '*'):
        return None if value == 'none' else value
    origins = [origin.strip() for origin in value.split(',')]
    for origin in origins:
        if not re.fullmatch(r'https?://[^/\s]+', origin):
            raise ValueError('must be *, none, or origins between commas')
    return origins


async def create_redis_pool(address: str | None) -> Any:
    """Make an aioredis pool that connects at its first command; None for no address."""
    if address is None:
        return None
    return await aioredis.create_redis_pool(address, minsize=0)


def _setting(
    default: str, parse: Callable[[str], Any], meaning: str, *, secret: bool = False
) -> Any:
    """Make a row of the table; the default is written as in the environment."""
    return dataclasses.field(
        metadata={
            'default': default,
            'parse': parse,
            'meaning': meaning,
            'secret': secret,
        }
    )


@dataclasses.dataclass(init=False, eq=False, repr=False)
class Config:
    """Plain data: what the environment says, free to change until `create_app`.

    `storage_path` is read from `ASGI_LOOK_STORAGE_PATH`, and so on; an empty value
    counts as none. Raises `ConfigError` for a bad value or an unknown name.
    """

    storage_path: str = _setting(DEFAULT_STORAGE_PATH, _text, 'folder of the images')
    redis_host: str | None = _setting(
        'redis://localhost',
        _redis_url,
        'Redis URL, also of Sentinels or of a Cluster; `none` for no Redis',
    )
    min_thumb_size: int = _setting(
        '64', _integer(1), 'pixels of the shorter side of the smallest thumbnail'
    )
    max_upload_size: int = _setting('32 MiB', _size, 'bytes of an upload')
    max_pixels: int = _setting('50000000', _integer(1), 'pixels of an upload')
    jpeg_quality: int = _setting(
        '85', _integer(1, 100), 'of images that were no JPEG, and of thumbnails'
    )
    cache_ttl: int = _setting('3600', _integer(1), 'seconds in Redis')
    cache_body_size: int = _setting(
        '1 MiB', _size, 'larger bodies are not put into a cache'
    )
    cache_memory: int = _setting(
        '64 MiB', _size, 'in-process cache of immutable responses; 0 for none'
    )
    redis_timeout: float = _setting(
        '0.25', _seconds, 'seconds that a request waits for Redis'
    )
    threads: int = _setting(
        'number of CPUs', _threads, 'Pillow threads of a process (1 to 256)'
    )
    queue_size: int = _setting(
        '64', _integer(0), 'renders and uploads waiting for a thread, past which 503'
    )
    render_timeout: float = _setting('30', _seconds, 'seconds that Pillow may work')
    body_timeout: float = _setting('30', _seconds, 'seconds without a byte of a body')
    page_size: int = _setting('1000', _integer(1), 'images a page')
    api_token: str | None = _setting(
        'none',
        _optional_text,
        'when set, POST and DELETE need `Authorization: Bearer`',
        secret=True,
    )
    cors_origins: str | list[str] | None = _setting(
        'none', _origins, 'origins whose pages may read the answers (CORS); `*`: all'
    )
    access_log: str = _setting(
        'text', _one_of('text', 'json', 'none'), 'a line a request: text, json or none'
    )

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        names = {ENV_PREFIX + field.name.upper() for field in settings()}
        for name in environ:
            if name.startswith(ENV_PREFIX) and name not in names:
                raise ConfigError(f'{name}={environ[name]!r}: no such setting')
        for field in settings():
            setattr(self, field.name, _read(field, environ))
        self.create_redis_pool: Callable[[Any], Awaitable[Any]] = create_redis_pool
        # Makes a client of redis.asyncio from a URL, and is then used instead.
        self.redis_from_url: Callable[[str], Any] | None = None
        self.uuid_generator: Callable[[], uuid.UUID] = uuid.uuid4


def settings() -> tuple[dataclasses.Field[Any], ...]:
    """Return the rows of the table; `metadata` has default, parse, meaning, secret."""
    return dataclasses.fields(Config)


def _read(field: dataclasses.Field[Any], environ: Mapping[str, str]) -> Any:
    name = ENV_PREFIX + field.name.upper()
    value = environ.get(name, '').strip() or field.metadata['default']
    try:
        return field.metadata['parse'](value)
    except ValueError as ex:
        raise ConfigError(f'{name}={_shown(field, value)!r}: {ex}') from None


def describe(config: Config) -> str:
    """List the settings in force as environment variables, with secrets hidden."""
    lines = []
    for field in settings():
        value = _written(getattr(config, field.name))
        lines.append(f'{ENV_PREFIX}{field.name.upper()}={_shown(field, value)}')
    return '\n'.join(lines)


def redact(url: str) -> str:
    """Hide the password of a URL, so that it can be logged."""
    url = re.sub(r'(?<=://)([^/?#@:]*):.*@', r'\1:***@', url)
    return re.sub(r'(?<=[?&]password=)[^&]*', '***', url)


def _written(value: Any) -> str:
    """Write a value as it would stand in the environment."""
    if isinstance(value, list):
        return ','.join(value)
    return 'none' if value is None else str(value)


def _shown(field: dataclasses.Field[Any], value: str) -> str:
    return '***' if field.metadata['secret'] and value != 'none' else redact(value)
