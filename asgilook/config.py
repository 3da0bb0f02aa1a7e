"""The settings: one table that drives parsing, defaults, README and command line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from . import backend_urls, validators
from .backend_urls import redact

ENV_PREFIX = 'ASGI_LOOK_'
DEFAULT_CACHE_TTL = 3600
DEFAULT_STORAGE_PATH = '/tmp/asgilook'  # noqa: S108 (the tutorial's; warned about)


class ConfigError(ValueError):
    """Invalid setting or argument.

    Args:
        problem: what is wrong with it.
        name: setting or argument, if the problem concerns a single one.
        value: its value, with secrets hidden.
    """

    def __init__(self, problem: str, name: str = '', value: str = '') -> None:
        super().__init__(f'{name}={value!r}: {problem}' if name else problem)
        self.problem = problem
        self.name = name
        self.value = value


async def create_redis_pool(address: str | None) -> Any:
    """Create an aioredis pool that connects at its first command; None without address.

    This is the default of `Config.create_redis_pool`.
    """
    # NOTE(startup): imported at the first use, so that settings load without aioredis.
    from .redis_clients.aioredis import create_pool

    return await create_pool(address)


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

    storage_path: str = _setting(
        DEFAULT_STORAGE_PATH, validators.text, 'folder of the images'
    )
    storage_url: str | None = _setting(
        'none',
        backend_urls.storage_url,
        'where images are, if not there: `s3://bucket/prefix?endpoint=...`, or '
        '`file:///path`',
    )
    database_url: str | None = _setting(
        'none',
        backend_urls.database_url,
        'index of the images: `postgresql://user:password@host/database`, or '
        '`sqlite:///absolute/path`; s3:// needs one',
    )
    redis_host: str | None = _setting(
        'redis://localhost',
        backend_urls.redis_url,
        'Redis URL, also of Sentinels or of a Cluster; `none` for no Redis',
    )
    min_thumb_size: int = _setting(
        '64',
        validators.integer(1),
        'pixels of the shorter side of the smallest thumbnail',
    )
    max_upload_size: int = _setting('32 MiB', validators.size, 'bytes of an upload')
    max_pixels: int = _setting('50000000', validators.integer(1), 'pixels of an upload')
    jpeg_quality: int = _setting(
        '85',
        validators.integer(1, 100),
        'of images that were no JPEG, and of thumbnails',
    )
    cache_ttl: int = _setting(
        str(DEFAULT_CACHE_TTL), validators.integer(1), 'seconds in Redis'
    )
    cache_body_size: int = _setting(
        '1 MiB', validators.size, 'larger bodies are not put into a cache'
    )
    cache_memory: int = _setting(
        '64 MiB', validators.size, 'in-process cache of immutable responses; 0 for none'
    )
    redis_timeout: float = _setting(
        '0.25', validators.seconds, 'seconds that a request waits for Redis'
    )
    threads: int = _setting(
        'number of CPUs', validators.threads, 'Pillow threads of a process (1 to 256)'
    )
    queue_size: int = _setting(
        '64',
        validators.integer(0),
        'renders and uploads waiting for a thread, past which 503',
    )
    render_timeout: float = _setting(
        '30', validators.seconds, 'seconds that Pillow may work'
    )
    body_timeout: float = _setting(
        '30', validators.seconds, 'seconds without a byte of a body'
    )
    page_size: int = _setting('1000', validators.integer(1), 'images a page')
    api_token: str | None = _setting(
        'none',
        validators.optional_text,
        'when set, POST and DELETE need `Authorization: Bearer`',
        secret=True,
    )
    cors_origins: str | list[str] | None = _setting(
        'none',
        validators.origins,
        'origins whose pages may read the answers (CORS); `*`: all',
    )
    access_log: str = _setting(
        'text',
        validators.one_of('text', 'json', 'none'),
        'a line a request: text, json or none',
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
        raise ConfigError(str(ex), name, _shown(field, value)) from None


def refusal(config: Config, name: str, problem: str) -> ConfigError:
    """Make the error that says what is wrong with a setting, its secrets hidden."""
    (field,) = (field for field in settings() if field.name == name)
    value = _shown(field, _written(getattr(config, name)))
    return ConfigError(problem, ENV_PREFIX + name.upper(), value)


@contextlib.contextmanager
def needs_extra(config: Config, setting: str, extra: str) -> Iterator[None]:
    """Raise `ConfigError` that names the extra to install if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as ex:
        problem = f'needs {ex.name}: pip install asgilook[{extra}]'
        raise refusal(config, setting, problem) from None


def describe(config: Config) -> str:
    """List the settings in force as environment variables, with secrets hidden."""
    lines = []
    for field in settings():
        value = _written(getattr(config, field.name))
        lines.append(f'{ENV_PREFIX}{field.name.upper()}={_shown(field, value)}')
    return '\n'.join(lines)


def _written(value: Any) -> str:
    """Write a value as it would stand in the environment."""
    if isinstance(value, list):
        return ','.join(value)
    return 'none' if value is None else str(value)


def _shown(field: dataclasses.Field[Any], value: str) -> str:
    return '***' if field.metadata['secret'] and value != 'none' else redact(value)
