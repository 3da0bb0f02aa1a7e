"""Factory of the storage that the settings select."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from ..config import Config, needs_extra, setting_error
from ..errors import ImageReplaced
from ..models import Image
from .base import Storage
from .folder import FolderStorage

# Concurrent calls to a remote storage; they mostly wait.
REMOTE_THREADS = 32


def local_folder(config: Config) -> str:
    """Return the folder of the images; of uploads in progress if images are remote."""
    if config.storage_url is None or is_remote(config):
        return os.fspath(config.storage_path)
    return unquote(urlsplit(config.storage_url).path)


def is_remote(config: Config) -> bool:
    """Return whether images are stored elsewhere than in a folder."""
    return config.storage_url is not None and not config.storage_url.startswith('file:')


def make_storage(config: Config) -> Storage:
    """Return the storage, not yet started; raises `ConfigError`."""
    folder, url = local_folder(config), config.storage_url
    if url is None or not is_remote(config):
        # An image that a database lists must not be replaced under the same id.
        return FolderStorage(folder, replaces=config.database_url is None)
    if config.database_url is None:
        raise setting_error(
            config,
            'storage_url',
            'also requires a database: set ASGI_LOOK_DATABASE_URL',
        )
    with needs_extra(config, 'storage_url', 's3'):
        from .s3 import ObjectStorage

        return ObjectStorage(url, folder)


def open_image(config: Config, storage: Storage, image: Image) -> BinaryIO:
    """Open the file of an image; raises `ImageReplaced` if it is another file by now.

    With a database, an id never gets another file, and times may differ after a backup.
    """
    file = storage.open(image.image_id)
    if config.database_url is None and not image.matches(os.fstat(file.fileno())):
        file.close()
        raise ImageReplaced('The image is being replaced; try again.')
    return file


def make_threads(config: Config) -> ThreadPoolExecutor | None:
    """Return threads for calls to the storage; None for those of the event loop.

    Calls to a remote storage get threads of their own, as those of the event loop write
    incoming uploads and must not wait for a network.
    """
    if not is_remote(config):
        return None
    return ThreadPoolExecutor(REMOTE_THREADS, 'asgilook-storage')
