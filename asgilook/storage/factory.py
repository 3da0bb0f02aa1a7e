"""Which storage the settings ask for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

from ..config import Config, needs_extra, refusal
from .base import Storage
from .folder import FolderStorage

# Calls at a time to a storage that is far away; they wait, mostly.
REMOTE_THREADS = 32


def local_folder(config: Config) -> str:
    """Where the images are, or only the uploads under way if they go elsewhere."""
    if config.storage_url is None or is_remote(config):
        return os.fspath(config.storage_path)
    return unquote(urlsplit(config.storage_url).path)


def is_remote(config: Config) -> bool:
    """Tell whether the images are somewhere else than in a folder."""
    return config.storage_url is not None and not config.storage_url.startswith('file:')


def make_storage(config: Config) -> Storage:
    """Make the storage, not yet started; raises `ConfigError`."""
    folder, url = local_folder(config), config.storage_url
    if url is None or not is_remote(config):
        # What a database lists must not become another image under the same id.
        return FolderStorage(folder, replaces=config.database_url is None)
    if config.database_url is None:
        raise refusal(
            config, 'storage_url', 'needs a database too: set ASGI_LOOK_DATABASE_URL'
        )
    with needs_extra(config, 'storage_url', 's3'):
        from .s3 import ObjectStorage

        return ObjectStorage(url, folder)


def make_threads(config: Config) -> ThreadPoolExecutor | None:
    """Make the threads that wait for the storage; None for those of the event loop.

    These write the uploads that come in, and must not wait for what is far away.
    """
    if not is_remote(config):
        return None
    return ThreadPoolExecutor(REMOTE_THREADS, 'asgilook-storage')
