"""`asgilook import --from-storage`: images from one storage and index into another.

They keep their ids, bytes and times, so that lists and ETags are as they were.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from typing import BinaryIO

from ..config import Config, ConfigError
from ..errors import (
    ImageDamaged,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)
from ..models import Image
from ..storage.atomic import storage_errors
from ..storage.factory import is_remote, local_folder
from .bulk import Bulk
from .places import Place, opened
from .progress import Progress

# Copied at a time: the most of it is waiting for a disk or a network.
AT_A_TIME = 8
_BLOCK = 1024 * 1024


class Migration(Bulk):
    """Copies what isn't there yet, and counts what became of it.

    Where `in_place`, both have the same files, and only the index is new.
    """

    def __init__(
        self, source: Place, target: Place, progress: Progress, *, in_place: bool
    ) -> None:
        super().__init__(AT_A_TIME, progress)
        self._source = source
        self._target = target
        self._in_place = in_place
        self.copied = 0
        self.present = 0

    async def run(self) -> None:
        """Copy all, page by page."""
        try:
            async for page in self._source.pages():
                await self.each(iter(page), self._take)
                if self.ended:
                    return
        except (StorageFull, StorageUnavailable) as ex:
            self.failure = ex

    async def _take(self, image: Image) -> None:
        try:
            await self._move(image)
        except (ImageDamaged, ImageExists, ImageNotFound, FileExistsError) as ex:
            self.refuse(image.image_id, str(ex))

    async def _move(self, image: Image) -> None:
        found = await self._target.index.get(image.image_id)
        if found == image:
            self.present += 1
            return
        if found is not None:
            raise ImageExists('another image has this id')
        if not self._in_place:
            await asyncio.to_thread(self._copy, image)
        await self._target.index.add(image)
        self.copied += 1

    def _copy(self, image: Image) -> None:
        """Copy a file, and read the copy again to prove it.

        A copy that is there already is of a run that was cut off before it was listed.
        """
        with storage_errors():
            new = self._target.storage.create()
            try:
                digest = self._read(image, new.file)
                with suppress(ImageExists):
                    new.publish(image.image_id, image.modified_ns)
            finally:
                new.close()
            with self._target.storage.open(image.image_id) as copy:
                if _sha256(copy) != digest:
                    raise ImageDamaged('the file in the new storage is another one')

    def _read(self, image: Image, target: BinaryIO) -> bytes:
        try:
            with self._source.storage.open(image.image_id) as file:
                digest = _sha256(file, target)
        except ImageNotFound:
            raise ImageNotFound('it is listed, but its file is missing') from None
        if target.tell() != image.length:
            raise ImageDamaged(f'its file is not of {image.length} bytes, as listed')
        return digest


def _sha256(file: BinaryIO, target: BinaryIO | None = None) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
        if target is not None:
            target.write(block)
    return digest.digest()


def migrate(config: Config, storage_url: str, database_url: str | None) -> int:
    """Copy all images to where the settings have them; return the exit code.

    Raises `ConfigError`.
    """
    source = _source(config, storage_url, database_url)
    with closing(Progress(None, sys.stderr)) as progress:
        migration = asyncio.run(_run(source, config, progress))
    counts = f'copied and compared {migration.copied}, '
    return migration.report(f'{counts}already there {migration.present}')


def _source(config: Config, storage_url: str, database_url: str | None) -> Config:
    urls = {'STORAGE_URL': storage_url, 'DATABASE_URL': database_url or 'none'}
    with _as_options():
        source = Config({f'ASGI_LOOK_{name}': url for name, url in urls.items()})
    source.storage_path = config.storage_path
    if source.database_url == config.database_url and _same_files(source, config):
        raise ConfigError('the source is what the settings have already')
    if not is_remote(source):
        try:
            os.listdir(local_folder(source))
        except OSError as ex:
            raise ConfigError(f'{local_folder(source)}: {ex.strerror}') from None
    return source


@contextmanager
def _as_options() -> Iterator[None]:
    """Name what is wrong with the source as the command line has it."""
    try:
        yield
    except ConfigError as ex:
        told = re.sub('ASGI_LOOK_(STORAGE|DATABASE)_URL', _option, str(ex))
        raise ConfigError(told) from None


def _option(found: re.Match[str]) -> str:
    return f'--from-{found[1].lower()}'


def _same_files(one: Config, other: Config) -> bool:
    return _location(one) == _location(other)


def _location(config: Config) -> str | None:
    if is_remote(config):
        return config.storage_url
    return os.path.realpath(local_folder(config))


async def _run(source: Config, target: Config, progress: Progress) -> Migration:
    async with AsyncExitStack() as stack:
        with _as_options():
            origin = await stack.enter_async_context(opened(source))
        goal = await stack.enter_async_context(opened(target))
        in_place = _same_files(source, target)
        migration = Migration(origin, goal, progress, in_place=in_place)
        migration.obey()
        await migration.run()
        return migration
