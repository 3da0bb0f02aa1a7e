"""`asgilook import --from-storage`: copies images from another storage and index.

They keep their ids, bytes and times, so lists and ETags stay the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from typing import BinaryIO

from ..backend_urls import redact
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
from ..storage.local import EXHAUSTED, describe
from .bulk import Bulk, Progress
from .places import Place, open_place

# Concurrent copies; they mostly wait for a disk or a network.
CONCURRENCY = 8
_BLOCK_SIZE = 1024 * 1024

_OPTIONS = {
    'ASGI_LOOK_STORAGE_URL': '--from-storage',
    'ASGI_LOOK_DATABASE_URL': '--from-database',
}


class Migration(Bulk):
    """Copies the images that the target lacks.

    With `in_place`, source and target have the same files, and only the list is copied.

    Attributes:
        copied: number of images that were copied.
        present: number of images that the target had already.
    """

    def __init__(
        self, source: Place, target: Place, progress: Progress, *, in_place: bool
    ) -> None:
        super().__init__(CONCURRENCY, progress)
        self._source = source
        self._target = target
        self._in_place = in_place
        self.copied = 0
        self.present = 0

    async def run(self) -> None:
        """Copy all images, page by page."""
        try:
            async for page in self._source.pages():
                await self.process_all(iter(page), self._migrate)
                if self.ended:
                    return
        except (StorageFull, StorageUnavailable) as ex:
            self.failure = ex

    async def _migrate(self, image: Image) -> None:
        try:
            await self._move(image)
        except (ImageDamaged, ImageExists, ImageNotFound, FileExistsError) as ex:
            self.reject(image.image_id, str(ex))

    async def _move(self, image: Image) -> None:
        found = await self._target.index.get(image.image_id)
        if found == image:
            self.present += 1
            return
        if found is not None:
            raise ImageExists('another image with this id already exists')
        if not self._in_place:
            await asyncio.to_thread(self._copy, image)
        await self._target.index.add(image)
        self.copied += 1

    def _copy(self, image: Image) -> None:
        """Copy a file, and read the copy to verify it.

        A copy may exist already, from a run that was interrupted before listing it.
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
                if _sha256(_blocks(copy)) != digest:
                    raise ImageDamaged('the target has another file with this id')

    def _read(self, image: Image, target: BinaryIO) -> bytes:
        with closing(self._source_blocks(image.image_id)) as blocks:
            digest = _sha256(blocks, target)
        if target.tell() != image.length:
            raise ImageDamaged(
                f'the file does not have the listed size of {image.length} bytes'
            )
        return digest

    def _source_blocks(self, image_id: str) -> Generator[bytes]:
        """Yield the content of a source file.

        Raises `ImageNotFound`, or `ImageDamaged` if only this file can't be read.
        """
        try:
            with self._source.storage.open(image_id) as file:
                yield from _blocks(file)
        except ImageNotFound:
            raise ImageNotFound('is listed, but its file is missing') from None
        except StorageUnavailable as ex:
            self._raise_if_damaged(ex.__cause__)
            raise
        except OSError as ex:
            self._raise_if_damaged(ex)
            raise

    def _raise_if_damaged(self, error: BaseException | None) -> None:
        """Raise `ImageDamaged` for an error of one file, not of the whole folder."""
        if not isinstance(error, OSError) or error.errno in EXHAUSTED:
            return
        with os.scandir(self._source.storage.local.path) as entries:
            next(entries, None)
        raise ImageDamaged(f'the file cannot be read: {describe(error)}')


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK_SIZE):
        yield block


def _sha256(blocks: Iterable[bytes], target: BinaryIO | None = None) -> bytes:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        if target is not None:
            target.write(block)
    return digest.digest()


def migrate(config: Config, storage_url: str, database_url: str | None) -> int:
    """Copy all images to the storage and index of the settings; return the exit code.

    Raises `ConfigError`.
    """
    source = _source(config, storage_url, database_url)
    with closing(Progress(None, sys.stderr)) as progress:
        migration = asyncio.run(_run(source, config, progress))
    counts = f'copied and verified {migration.copied}, '
    return migration.report(f'{counts}already present {migration.present}')


def _source(config: Config, storage_url: str, database_url: str | None) -> Config:
    urls = {'STORAGE_URL': storage_url, 'DATABASE_URL': database_url or 'none'}
    with _named_as_options():
        source = Config({f'ASGI_LOOK_{name}': url for name, url in urls.items()})
    source.storage_path = config.storage_path
    if is_remote(source) and source.database_url is None:
        problem = 'needs the database of that bucket: add --from-database'
        raise ConfigError(problem, '--from-storage', redact(storage_url))
    if source.database_url == config.database_url and _same_files(source, config):
        raise ConfigError('source and target are the same')
    if not is_remote(source):
        try:
            os.listdir(local_folder(source))
        except OSError as ex:
            raise ConfigError(f'{local_folder(source)}: {ex.strerror}') from None
    return source


@contextmanager
def _named_as_options() -> Iterator[None]:
    """Raise errors about settings of the source with the names of its options."""
    try:
        yield
    except ConfigError as ex:
        name = _OPTIONS.get(ex.name, ex.name)
        raise ConfigError(ex.problem, name, ex.value) from None


def _same_files(one: Config, other: Config) -> bool:
    return _location(one) == _location(other)


def _location(config: Config) -> str | None:
    if is_remote(config):
        return config.storage_url
    return os.path.realpath(local_folder(config))


async def _run(source: Config, target: Config, progress: Progress) -> Migration:
    async with AsyncExitStack() as stack:
        with _named_as_options():
            origin = await stack.enter_async_context(open_place(source))
        goal = await stack.enter_async_context(open_place(target))
        in_place = _same_files(source, target)
        migration = Migration(origin, goal, progress, in_place=in_place)
        migration.handle_signals()
        await migration.run()
        return migration
