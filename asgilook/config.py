"""The settings: one table for parsing, defaults, README and `asgilook config`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from . import backend_urls, validators
from .backend_urls import redact
from .validators import ENV_PREFIX

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
    """Create an aioredis pool that connects at its first command; None for no address.

    This is the default of `Config.create_redis_pool`.
    """
    # NOTE(startup): imported at the first use, so that settings load without aioredis.
    from .redis_clients.aioredis import create_pool

    return await create_pool(address)


def _setting(
    default: str, parse: Callable[[str], Any], meaning: str, *, secret: bool = False
) -> Any:
    """Return a row of the table; the default is written as in the environment."""
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
    """Settings, read from the environment; attributes may be set until `create_app`.

    `storage_path` is read from `ASGI_LOOK_STORAGE_PATH`, and so on; an empty value
    counts as unset. Raises `ConfigError` for an invalid value or an unknown name.
    """

    storage_path: str = _setting(
        DEFAULT_STORAGE_PATH, validators.text, 'folder of the image files'
    )
    storage_url: str | None = _setting(
        'none',
        backend_urls.storage_url,
        'storage other than that folder: `s3://bucket/prefix?endpoint=...` (needs a '
        'database) or `file:///path`',
    )
    database_url: str | None = _setting(
        'none',
        backend_urls.database_url,
        'database with the list of images: `postgresql://user:password@host/database` '
        'or `sqlite:///absolute/path`',
    )
    redis_host: str | None = _setting(
        'redis://localhost',
        backend_urls.redis_url,
        'Redis URL (single server, Sentinel or Cluster); `none` for no Redis',
    )
    min_thumb_size: int = _setting(
        '64',
        validators.integer(1),
        'shorter side of the smallest thumbnail, in pixels',
    )
    max_upload_size: int = _setting(
        '32 MiB', validators.size, 'maximum size of an upload, in bytes'
    )
    max_pixels: int = _setting(
        '50000000', validators.integer(1), 'maximum number of pixels of an upload'
    )
    jpeg_quality: int = _setting(
        '85',
        validators.integer(1, 100),
        'JPEG quality of thumbnails, and of uploads in formats other than JPEG',
    )
    cache_ttl: int = _setting(
        str(DEFAULT_CACHE_TTL),
        validators.integer(1),
        'lifetime of a cached response in Redis, in seconds',
    )
    cache_body_size: int = _setting(
        '1 MiB', validators.size, 'largest response body to be cached, in bytes'
    )
    cache_memory: int = _setting(
        '64 MiB',
        validators.size,
        'size of the in-process response cache, in bytes; 0 disables it',
    )
    redis_timeout: float = _setting(
        '0.25',
        validators.seconds,
        'time limit of a Redis command, in seconds, after which the request continues '
        'without Redis',
    )
    threads: int = _setting(
        'number of CPUs',
        validators.threads,
        'worker threads for image processing, per process (1 to 256)',
    )
    queue_size: int = _setting(
        '64',
        validators.integer(0),
        'uploads and renders that may wait for a worker thread; further ones get 503',
    )
    render_timeout: float = _setting(
        '30',
        validators.seconds,
        'time limit for one decode or render, in seconds',
    )
    body_timeout: float = _setting(
        '30',
        validators.seconds,
        'maximum wait for the next chunk of a request body, in seconds',
    )
    page_size: int = _setting(
        '1000', validators.integer(1), 'maximum number of images in a page of the list'
    )
    api_token: str | None = _setting(
        'none',
        validators.tokens,
        'bearer token that POST and DELETE require; several, separated by commas, '
        'allow rotation',
        secret=True,
    )
    cors_origins: str | list[str] | None = _setting(
        'none',
        validators.origins,
        'origins, separated by commas, whose pages may read responses (CORS); '
        '`*` for all',
    )
    access_log: str = _setting(
        'text',
        validators.one_of('text', 'json', 'none'),
        'format of the access log: `text`, `json` or `none`; with `json` all log '
        'lines are JSON',
    )

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        for name in environ:
            if name.startswith(ENV_PREFIX) and name not in _variables():
                raise _unknown(name, environ[name])
        for field in settings():
            setattr(self, field.name, _read(field, environ))
        self.create_redis_pool: Callable[[Any], Awaitable[Any]] = create_redis_pool
        # If set, a factory of redis.asyncio clients, used instead of aioredis.
        self.redis_from_url: Callable[[str], Any] | None = None
        self.uuid_generator: Callable[[], uuid.UUID] = uuid.uuid4


def settings() -> tuple[dataclasses.Field[Any], ...]:
    """Return the table; each field has default, parse, meaning, secret as metadata."""
    return dataclasses.fields(Config)


def misspelled_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables that are probably meant to be settings, and the right names.

    Their prefix is spelled differently, as in `ASGILOOK_API_TOKEN`.
    """
    return validators.misspelled(environ, _variables())


def _unknown(name: str, value: str) -> ConfigError:
    known = _variables()
    is_secret = validators.may_be_secret(name, known)
    problem = f'unknown setting; {validators.advice(name, known)}'
    return ConfigError(problem, name, '***' if is_secret else redact(value))


def _variables() -> list[str]:
    return [ENV_PREFIX + field.name.upper() for field in settings()]


def _read(field: dataclasses.Field[Any], environ: Mapping[str, str]) -> Any:
    name = ENV_PREFIX + field.name.upper()
    value = environ.get(name, '').strip() or field.metadata['default']
    try:
        return field.metadata['parse'](validators.printable(value))
    except ValueError as ex:
        raise ConfigError(str(ex), name, _shown(field, value)) from None


def setting_error(config: Config, name: str, problem: str) -> ConfigError:
    """Return an error about a setting's value, with secrets hidden."""
    (field,) = (field for field in settings() if field.name == name)
    value = _shown(field, _written(getattr(config, name)))
    return ConfigError(problem, ENV_PREFIX + name.upper(), value)


@contextlib.contextmanager
def needs_extra(config: Config, setting: str, extra: str) -> Iterator[None]:
    """Raise `ConfigError` that names the extra to install if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as ex:
        problem = (
            f"needs {ex.name}: run pip install '.[{extra}]' in the project's folder"
        )
        raise setting_error(config, setting, problem) from None


def describe(config: Config) -> str:
    """Return the effective settings as environment variables, with secrets hidden."""
    lines = []
    for field in settings():
        value = _written(getattr(config, field.name))
        lines.append(f'{ENV_PREFIX}{field.name.upper()}={_shown(field, value)}')
    return '\n'.join(lines)


def _written(value: Any) -> str:
    """Format a value as in the environment."""
    if isinstance(value, list):
        return ','.join(value)
    return 'none' if value is None else str(value)


def _shown(field: dataclasses.Field[Any], value: str) -> str:
    return '***' if field.metadata['secret'] and value != 'none' else redact(value)
