"""A storage with its index: looked at before a service starts, opened for a command."""

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

PAGE = 1000


@dataclasses.dataclass(frozen=True)
class Place:
    """Where files are, and what says which of them exist."""

    storage: Storage
    index: Index

    async def pages(self) -> AsyncIterator[list[Image]]:
        """Yield all images, oldest first, some at a time."""
        page = await self.index.page(PAGE)
        while page.images:
            yield page.images
            if not page.more:
                return
            page = await self._after(page)

    async def _after(self, page: Page) -> Page:
        """Go on, even where the last image has been deleted meanwhile."""
        for image in reversed(page.images):
            try:
                return await self.index.page(PAGE, image.image_id)
            except InvalidRequest:
                continue
        raise StorageUnavailable('The images are being deleted; try again.')


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Place]:
    """Open what the settings name; raises `ConfigError` where that can't be."""
    place = Place(make_storage(config), make_index(config))
    try:
        await asyncio.to_thread(place.storage.start)
        await place.index.start()
    except (OSError, StorageUnavailable) as ex:
        raise ConfigError(f'the storage folder: {ex}') from None
    try:
        yield place
    finally:
        await place.index.stop()
        await asyncio.to_thread(place.storage.stop)


def prepared(config: Config) -> Config:
    """Fail here in one line, rather than in each of the workers that are to be."""
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
        asyncio.run(_open(index))
    return config


async def _open(index: Index) -> None:
    """Let a database say what is wrong; of one that is down the service will tell."""
    logger, silence = logging.getLogger('asgilook'), logging.NullHandler()
    logger.addHandler(silence)
    await index.start()
    await index.stop()
    logger.removeHandler(silence)
