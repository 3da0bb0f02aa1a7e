"""A storage with its index: validated before a service starts, opened by commands."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..config import Config, ConfigError, refusal
from ..errors import InvalidRequest, StorageUnavailable
from ..index.base import Index
from ..index.factory import make_index
from ..models import Image, Page
from ..redis_clients.factory import create_driver
from ..storage.base import Storage
from ..storage.factory import local_folder, make_storage

PAGE_SIZE = 1000


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
    place = Place(make_storage(config), make_index(config))
    try:
        await asyncio.to_thread(place.storage.start)
        await place.index.start()
    except (OSError, StorageUnavailable) as ex:
        raise ConfigError(f'storage folder: {ex}') from None
    try:
        yield place
    finally:
        await place.index.stop()
        await asyncio.to_thread(place.storage.stop)


def prepared(config: Config) -> Config:
    """Return the settings; raise `ConfigError` if no worker could start with them."""
    make_storage(config)
    index = make_index(config)
    create_driver(config)
    try:
        os.makedirs(local_folder(config), exist_ok=True)
    except OSError as ex:
        is_path = local_folder(config) == config.storage_path
        name = 'storage_path' if is_path else 'storage_url'
        raise refusal(config, name, ex.strerror or '') from None
    if config.database_url is not None:
        asyncio.run(_validate(index))
    return config


async def _validate(index: Index) -> None:
    """Raise `ConfigError` if a database can't be used; an unreachable one is no error.

    Each worker logs that it is unreachable, so nothing is logged here.
    """
    logging.disable(logging.WARNING)
    try:
        await index.start()
        await index.stop()
    finally:
        logging.disable(logging.NOTSET)
