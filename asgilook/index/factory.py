"""The choice of an index by the settings."""

from __future__ import annotations

from ..config import Config, needs_extra
from ..storage.factory import local_folder
from ..storage.local import LocalFolder
from .base import Index
from .folder import FolderIndex


def make_index(config: Config, local: LocalFolder | None = None) -> Index:
    """Make the index, not yet started; raises `ConfigError`."""
    if config.database_url is None:
        return FolderIndex(local_folder(config), local)
    with needs_extra(config, 'database_url', 'database'):
        from .database import DatabaseIndex

        return DatabaseIndex(config.database_url)
