"""The store: uploads in, JPEGs and thumbnails out. Where files live; no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any, BinaryIO, TypeVar

import aiofiles.tempfile

from . import files, transform
from .config import DEFAULT_STORAGE_PATH, Config
from .errors import (
    DeadlineExceeded,
    ImageDamaged,
    ImageNotFound,
    StoredImageDamaged,
)
from .image import Image
from .index import Index
from .observer import SILENT, Observer
from .pool import Check, Pool

__all__ = ['Image', 'Store']

log = logging.getLogger(__name__)

T = TypeVar('T')
Size = tuple[int, int]

BLOCK_SIZE = 1024 * 1024

# How long a rendered thumbnail is there for those who wait for it.
KEEP_SECONDS = 0.25


class Store:
    """The images of one storage folder, shared with any number of processes."""

    def __init__(self, config: Config, observer: Observer = SILENT) -> None:
        self._config = config
        self._observer = observer
        self._folder = os.fspath(config.storage_path)
        self._index = Index(self._folder)
        self._pool = Pool(config.threads, config.queue_size, config.render_timeout)
        observer.watch(self._pool)
        self._renders: dict[tuple[Image, Size], asyncio.Task[bytes]] = {}
        self._saves: set[asyncio.Task[Image]] = set()

    async def start(self) -> None:
        """Open the folder, sweep it and read what is there; raises OSError."""
        transform.configure(self._config.max_pixels)
        await asyncio.to_thread(os.makedirs, self._folder, exist_ok=True)
        if self._folder == DEFAULT_STORAGE_PATH:
            log.warning(
                'images are kept in %s, which does not outlive a reboot: '
                'set ASGI_LOOK_STORAGE_PATH',
                self._folder,
            )
        swept = await asyncio.to_thread(files.sweep, self._folder)
        if swept:
            log.info('removed %d temporary files of uploads that were cut off', swept)
        await self._index.start()
        self._pool.start()

    async def stop(self) -> None:
        """Let uploads under way end, then give the threads back."""
        if self._saves:
            await asyncio.wait(self._saves)
        await self._pool.stop()
        if self._renders:
            await asyncio.wait(self._renders.values())
            self._renders.clear()
        self._index.stop()

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[Any]:
        """Open an aiofiles file without a name, for the bytes of an upload.

        Raises `Busy` before anything of the body has been read, if there is too much
        work already.
        """
        self._pool.admit()
        with files.storage_errors():
            async with aiofiles.tempfile.TemporaryFile('w+b', dir=self._folder) as file:
                yield file

    async def save(self, image_id: str, upload: Any) -> Image:
        """Turn an upload into a stored JPEG; when this returns, it is on disk.

        It goes on to its end even if its caller is cancelled. Raises
        `UnsupportedFormat`, `ImageDamaged`, `UploadTooLarge`, `Busy`, `StorageFull`
        or `StorageUnavailable`; then nothing of it remains.
        """
        with files.storage_errors():
            await upload.flush()
        source = os.fdopen(os.dup(upload.fileno()), 'rb')
        task = asyncio.create_task(self._save(image_id, source))
        self._saves.add(task)
        task.add_done_callback(self._saves.discard)
        return await _outlive(task)

    async def get(self, image_id: str) -> Image:
        """Return an image that exists at this moment, or raise `ImageNotFound`."""
        image = await self._index.get(image_id)
        if image is None:
            raise ImageNotFound('There is no such image.')
        return image

    def is_current(self, image: Image) -> bool:
        """Tell whether the file is still the one that `image` was read from."""
        return self._index.is_current(image)

    async def list_images(
        self, limit: int, after: str | None = None
    ) -> tuple[list[Image], bool]:
        """Return a page of images, oldest first, and whether more follow.

        Raises `InvalidRequest` where `after` names no image.
        """
        return await self._index.page(limit, after)

    @property
    def state(self) -> int:
        """A number for the set of all images, as of the last `list_images`."""
        return self._index.state

    async def read(self, image: Image) -> bytes:
        """Return a whole image."""
        return await asyncio.to_thread(self._read, image)

    async def stream(
        self, image: Image, start: int, stop: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` up to `stop`, in blocks of 1 MiB at most.

        A file that has become shorter ends the stream early.
        """
        file = await asyncio.to_thread(self._open, image)
        with file:
            while start < stop:
                size = min(BLOCK_SIZE, stop - start)
                block = await asyncio.to_thread(os.pread, file.fileno(), size, start)
                if not block:
                    return
                start += len(block)
                yield block

    async def make_thumbnail(self, image: Image, size: Size) -> bytes:
        """Render a thumbnail: once for any number of callers that wait for it.

        Raises `Busy`, `DeadlineExceeded`, `ImageNotFound` or `StoredImageDamaged`.
        """
        task = self._renders.get((image, size))
        if task is None:
            job = self._observer.timed(
                'thumbnail', partial(self._thumbnail, image, size)
            )
            task = asyncio.create_task(self._pool.run(job))
            self._renders[image, size] = task
            task.add_done_callback(lambda done: self._forget_render(image, size, done))
        return await _outlive(task)

    def _forget_render(
        self, image: Image, size: Size, task: asyncio.Task[bytes]
    ) -> None:
        """Keep a success for those who asked the cache just before it was there."""
        seconds = 0 if task.cancelled() or task.exception() else KEEP_SECONDS
        forget = partial(self._renders.pop, (image, size), None)
        asyncio.get_running_loop().call_later(seconds, forget)

    async def delete(self, image: Image) -> None:
        """Remove an image for good, or raise `ImageNotFound`."""
        with files.storage_errors():
            await asyncio.to_thread(files.remove, self._index.path(image))
        self._index.discard(image.image_id)

    async def _save(self, image_id: str, source: BinaryIO) -> Image:
        with source, files.storage_errors():
            new = await asyncio.to_thread(files.NewFile, self._folder)
            try:
                job = partial(self._convert, source, new.file)
                size = await self._pool.run(self._observer.timed('upload', job))
                status = await asyncio.to_thread(new.publish, image_id)
            except DeadlineExceeded as ex:
                raise ImageDamaged(str(ex)) from ex
            finally:
                await asyncio.to_thread(new.close)
        image = Image(image_id, size, status.st_size, status.st_mtime_ns)
        self._index.add(image)
        return image

    def _convert(self, source: BinaryIO, target: BinaryIO, check: Check) -> Size:
        source.seek(0)
        return transform.to_jpeg(
            source,
            target,
            max_pixels=self._config.max_pixels,
            quality=self._config.jpeg_quality,
            check=check,
            accepted=self._observer.accepted,
        )

    def _thumbnail(self, image: Image, size: Size, check: Check) -> bytes:
        # Pillow lets go of the GIL only while it writes to a real file descriptor.
        with (
            os.fdopen(os.memfd_create('thumbnail'), 'w+b') as target,
            self._open(image) as source,
        ):
            try:
                transform.thumbnail(
                    source, target, size, quality=self._config.jpeg_quality, check=check
                )
            except ImageDamaged as ex:
                raise StoredImageDamaged('The stored image is damaged.') from ex
            except OSError as ex:
                if ex.errno not in files.FULL:
                    raise
                raise MemoryError from ex
            target.seek(0)
            return target.read()

    def _read(self, image: Image) -> bytes:
        with self._open(image) as file:
            return file.read()

    def _open(self, image: Image) -> BinaryIO:
        with files.storage_errors():
            try:
                return open(self._index.path(image), 'rb')
            except FileNotFoundError:
                raise ImageNotFound('There is no such image.') from None


async def _outlive(task: asyncio.Task[T]) -> T:
    """Await a task that others need too: who is cancelled doesn't cancel it."""
    task.add_done_callback(_retrieve_exception)
    return await asyncio.shield(task)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining where nobody is left to hear of a failure."""
    if not task.cancelled():
        task.exception()
