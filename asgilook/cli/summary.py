"""Log output of `asgilook serve` at start: a summary, and warnings about settings."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping

from .. import __version__
from ..backend_urls import redact
from ..config import DEFAULT_STORAGE_PATH, Config, misspelled_variables
from ..redis_clients.client import Redis
from ..redis_clients.factory import create_driver
from ..storage.factory import is_remote, local_folder
from .places import quiet

log = logging.getLogger(__name__)

_REDIS_STATES = {'up': ' (found)', 'down': ' (not found)', 'none': ''}


def summarize(config: Config, *, redis_state: str, host: str, port: int) -> str:
    """Return version, storage, index, Redis, access rights and the gallery's URL.

    Secrets are hidden. The URL is omitted if the system chooses the port.
    """
    storage = config.storage_url if is_remote(config) else local_folder(config)
    index = redact(config.database_url) if config.database_url else 'in memory'
    redis = redact(str(config.redis_host)) if config.redis_host else 'none'
    if config.api_token:
        access = 'uploads and deletions need a token'
    else:
        access = 'uploads open to everyone, deletions disabled (no token is set)'
    parts = [
        f'asgilook {__version__}: storage {redact(str(storage))}',
        f'index {index}',
        f'Redis {redis}{_REDIS_STATES[redis_state]}',
        access,
    ]
    if port:
        parts.append(f'gallery http://{_url_host(host)}:{port}/')
    return '; '.join(parts)


def _url_host(host: str) -> str:
    if host in ('0.0.0.0', '::'):  # noqa: S104 (not bound here)
        return 'localhost'
    return f'[{host}]' if ':' in host else host


async def find_redis(config: Config) -> str:
    """Return `up`, `down` or `none`; each worker logs its own connection's failures."""
    redis = Redis(create_driver(config), config.redis_timeout)
    with quiet():
        state = await redis.state()
        await redis.stop()
    return state


def log_advice(config: Config, environ: Mapping[str, str], host: str) -> None:
    """Log what the operator should change."""
    if not is_remote(config) and local_folder(config) == DEFAULT_STORAGE_PATH:
        log.warning(
            'images are stored in %s, which is lost at a reboot: '
            'set ASGI_LOOK_STORAGE_PATH',
            DEFAULT_STORAGE_PATH,
        )
    if not config.api_token and not _is_loopback(host):
        log.warning(
            'everyone who can reach %s may upload images: set ASGI_LOOK_API_TOKEN', host
        )
    for name, meant in misspelled_variables(environ).items():
        log.warning('%s is not a setting; did you mean %s?', name, meant)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'
