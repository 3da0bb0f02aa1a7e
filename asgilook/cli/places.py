"""Storages with their indexes: validated at start, opened by commands."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ..config import Config, ConfigError, setting_error
from ..errors import InvalidRequest, StorageUnavailable
from ..index.base import Index
from ..index.factory import make_index
from ..models import Image, Page
from ..redis_clients.factory import create_driver
from ..storage.base import Storage
from ..storage.factory import local_folder, make_storage

PAGE_SIZE = 1000

# Errors of paths that can never become those of folders.
_WRONG_PATH = frozenset({errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})


@dataclasses.dataclass(frozen=True)
class Place:
    """A storage, and the index that lists its images."""

    storage: Storage
    index: Index

    async def pages(self) -> AsyncIterator[list[Image]]:
        """Yield all images, oldest first, in pages."""
        page = await self.index.page(PAGE_SIZE)
        while page.images:
            yield page.images
            if not page.more:
                return
            page = await self._next(page)

    async def _next(self, page: Page) -> Page:
        """Return the next page, even if the last images have been deleted meanwhile."""
        for image in reversed(page.images):
            try:
                return await self.index.page(PAGE_SIZE, image.image_id)
            except InvalidRequest:
                continue
        raise StorageUnavailable('Images are being deleted; try again.')


@asynccontextmanager
async def open_place(config: Config) -> AsyncIterator[Place]:
    """Open storage and index; raises `ConfigError` if they can't be used."""
    storage = make_storage(config)
    place = Place(storage, make_index(config, storage.local))
    await asyncio.to_thread(storage.start)
    require_folder(config)
    try:
        await place.index.start()
        yield place
    finally:
        await place.index.stop()
        await asyncio.to_thread(place.storage.stop)


def require_folder(config: Config) -> None:
    """Raise `ConfigError` if the storage folder can't be read now."""
    try:
        os.scandir(local_folder(config)).close()
    except OSError as ex:
        raise ConfigError(f'storage folder: {ex}') from None


def prepared(config: Config) -> Config:
    """Return the settings; raise `ConfigError` if they can never work.

    An unavailable storage folder or database is not an error: the service starts, and
    either may become available later.
    """
    make_storage(config)
    index = make_index(config)
    create_driver(config)
    folder = local_folder(config)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as ex:
        if ex.errno in _WRONG_PATH or os.path.exists(folder):
            is_path = folder == config.storage_path
            name = 'storage_path' if is_path else 'storage_url'
            is_file = ex.errno == errno.EEXIST
            problem = 'is not a folder' if is_file else ex.strerror or ''
            raise setting_error(config, name, problem) from None
    if config.database_url is not None:
        asyncio.run(_validate(index))
    return config


async def _validate(index: Index) -> None:
    """Raise `ConfigError` if a database can never be used; it may be unreachable now.

    Each worker logs that it is unreachable, so nothing is logged here.
    """
    with quiet():
        await index.start()
        await index.stop()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
