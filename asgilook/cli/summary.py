"""The line that `asgilook serve` logs at its start."""

from __future__ import annotations

from .. import __version__
from ..backend_urls import redact
from ..config import Config
from ..storage.factory import is_remote, local_folder


def summarize(config: Config, *, host: str, port: int) -> str:
    """Return version, storage, index, Redis, access rights and the gallery's URL.

    Secrets are hidden. The URL is left out if the system is to choose the port.
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
        f'Redis {redis}',
        access,
    ]
    if port:
        name = f'[{host}]' if ':' in host else host
        parts.append(f'gallery http://{name}:{port}/')
    return '; '.join(parts)
