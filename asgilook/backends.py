"""Which storage and which index the settings ask for."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from .config import Config
from .folder_index import FolderIndex
from .folder_storage import FolderStorage
from .index import Index
from .storage import Storage


def local_folder(config: Config) -> str:
    """Where the images are, or only the uploads under way if they go elsewhere."""
    url = config.storage_url
    if url is None or not url.startswith('file:'):
        return os.fspath(config.storage_path)
    return unquote(urlsplit(url).path)


def make_storage(config: Config) -> Storage:
    """Make the storage, not yet started."""
    return FolderStorage(local_folder(config))


def make_index(config: Config) -> Index:
    """Make the index, not yet started."""
    return FolderIndex(local_folder(config))
