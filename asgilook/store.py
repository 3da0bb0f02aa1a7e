"""The store: uploads in, JPEGs and thumbnails out; no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, Literal, TypeVar

import aiofiles.tempfile

from .concurrency import Pool, outlive
from .config import Config
from .errors import (
    AsgilookError,
    DeadlineExceeded,
    ImageDamaged,
    ImageNotFound,
    OutcomeUnknown,
    StorageUnavailable,
)
from .imaging import transform
from .imaging.transform import Format
from .index.factory import make_index
from .metrics import Metrics
from .models import CheckDeadline, Image, Page, Size
from .renderer import Renderer
from .storage.base import NewObject
from .storage.factory import local_folder, make_storage, make_threads, open_image
from .storage.stream import FileStream

__all__ = ['Image', 'Store']

T = TypeVar('T')

log = logging.getLogger(__name__)

BLOCK_SIZE = 1024 * 1024

# What is under way at the end has been given up by the server: it gets a moment more.
LAST_SECONDS = 2.0


class Store:
    """The images of one storage and index, shared with any number of processes."""

    def __init__(self, config: Config, metrics: Metrics | None = None) -> None:
        self._config = config
        self._metrics = metrics or Metrics()
        self._folder = local_folder(config)
        self._storage = make_storage(config)
        self._index = make_index(config, self._storage.local)
        self._threads: ThreadPoolExecutor | None = None
        self._pool = Pool(
            config.threads, config.queue_size, config.render_timeout, self._metrics
        )
        self._renderer = Renderer(
            config=config,
            storage=self._storage,
            pool=self._pool,
            call=self._call,
            is_current=self._index.is_current,
            metrics=self._metrics,
        )
        self._saves: set[asyncio.Task[Image]] = set()

    async def start(self) -> None:
        """Open storage and index, if they can be used now; raises `ConfigError`."""
        transform.configure(self._config.max_pixels)
        self._threads = make_threads(self._config)
        await self._call(self._storage.start)
        await self._index.start()
        self._pool.start()

    async def stop(self) -> None:
        """Let uploads end that are nearly done, and give the threads back."""
        await self._settle(LAST_SECONDS)
        await self._pool.stop()
        await self._settle(None)
        await self._renderer.stop()
        await self._index.stop()
        await self._call(self._storage.stop)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    async def _settle(self, seconds: float | None) -> None:
        if self._saves:
            await asyncio.wait(self._saves, timeout=seconds)

    def is_usable(self) -> bool:
        """Tell whether the storage can be used now; this may block."""
        return self._storage.is_usable()

    async def database_state(self) -> Literal['up', 'down', 'none']:
        """Tell whether the database works, or that there is none."""
        if self._config.database_url is None:
            return 'none'
        return 'up' if await self._index.is_usable() else 'down'

    async def count(self) -> int:
        """Return the number of images; raises `StorageUnavailable`."""
        return await self._index.count()

    def free_bytes(self) -> int:
        """Return the free bytes of the storage folder; this may block."""
        return shutil.disk_usage(self._folder).free

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[Any]:
        """Open an aiofiles file without a name, for the bytes of an upload.

        Raises `Busy` or `StorageUnavailable` before anything of the body has been read,
        if there is too much work already, or no index to list the image in.
        """
        self._pool.admit()
        if not await self._index.is_usable():
            raise StorageUnavailable("The database can't be used now.")
        self._storage.local.prepare()
        with self._storage.local.writing():
            async with aiofiles.tempfile.TemporaryFile('w+b', dir=self._folder) as file:
                yield file

    async def save(self, image_id: str, upload: Any) -> Image:
        """Turn an upload into a stored JPEG; when this returns, it is on disk.

        It goes on to its end even if its caller is cancelled. Raises
        `UnsupportedFormat`, `ImageDamaged`, `UploadTooLarge`, `Busy`, `StorageFull`
        or `StorageUnavailable`; then nothing of it remains.
        """
        with self._storage.local.writing():
            await upload.flush()
        source = os.fdopen(os.dup(upload.fileno()), 'rb')
        task = asyncio.create_task(self._save(image_id, source))
        self._saves.add(task)
        task.add_done_callback(self._saves.discard)
        return await outlive(task)

    async def get(self, image_id: str) -> Image:
        """Return an image that exists at this moment, or raise `ImageNotFound`."""
        image = await self._index.get(image_id)
        if image is None:
            raise ImageNotFound('There is no such image.')
        return image

    def is_current(self, image: Image) -> Awaitable[bool]:
        """Tell whether an image is still the one that is stored."""
        return self._index.is_current(image)

    async def list_version(self) -> str | None:
        """Return the state of the whole list, as in `Page.state`; None if unknown."""
        return await self._index.version()

    async def list_images(
        self, limit: int, after: str | None = None, *, newest: bool = False
    ) -> Page:
        """Return a page of images, oldest or newest first; raises `InvalidRequest`."""
        return await self._index.page(limit, after, newest=newest)

    async def read(self, image: Image) -> bytes:
        """Return a whole image."""
        return await self._call(self._read, image)

    async def open_stream(self, image: Image, start: int, stop: int) -> FileStream:
        """Open an image file, and read its first block from `start` on.

        The stream yields the bytes up to `stop`, in blocks of 1 MiB at most. Raises
        `ImageNotFound` or `StorageUnavailable`, as does the stream.
        """
        task = asyncio.create_task(self._open_stream(image, start, stop))
        try:
            return await outlive(task)
        except asyncio.CancelledError:
            task.add_done_callback(_release)
            raise

    async def make_thumbnail(
        self, image: Image, size: Size, format_: Format = 'jpeg'
    ) -> bytes:
        """Return a thumbnail of a listed size, made once for all concurrent callers.

        Raises `Busy`, `DeadlineExceeded`, `ImageNotFound` or `StoredImageDamaged`.
        """
        return await self._renderer.render(image, size, format_)

    async def delete(self, image: Image) -> None:
        """Remove an image for good, or raise `ImageNotFound`."""
        await self._index.remove(image.image_id)
        try:
            await self._call(self._storage.remove, image.image_id)
        except AsgilookError as ex:
            if self._config.database_url is None:
                raise  # there the file is the image
            log.warning('deleted %s, but not its file: %s', image.image_id, ex)
        await self._renderer.remove_preview(image.image_id)

    async def _save(self, image_id: str, source: BinaryIO) -> Image:
        with source, self._storage.local.writing():
            new = await self._call(self._storage.create)
            try:
                job = partial(self._convert, source, new.file)
                converted = await self._pool.run(job, 'upload')
                self._metrics.uploads.labels(converted.format.lower()).inc()
                image = await self._publish(new, image_id, converted.size)
                await self._renderer.store_preview(image, converted.preview)
                return image
            except DeadlineExceeded as ex:
                raise ImageDamaged(str(ex)) from ex
            finally:
                await self._call(new.close)

    async def _publish(self, new: NewObject, image_id: str, size: Size) -> Image:
        """Store first, list then: so nobody hears of what can't be read."""
        length, modified_ns = await self._call(new.publish, image_id)
        image = Image(image_id, size, length, modified_ns)
        try:
            await self._index.add(image)
        except (OutcomeUnknown, asyncio.CancelledError):
            raise  # it may be listed after all, and then has to be there
        except BaseException:
            await self._call(self._storage.remove, image_id)
            raise
        return image

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call what blocks, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)

    def _convert(
        self, source: BinaryIO, target: BinaryIO, check_deadline: CheckDeadline
    ) -> transform.Upload:
        """Write an upload as a clean JPEG."""
        source.seek(0)
        return transform.to_jpeg(
            source,
            target,
            max_pixels=self._config.max_pixels,
            quality=self._config.jpeg_quality,
            min_thumb_size=self._config.min_thumb_size,
            check_deadline=check_deadline,
        )

    def _read(self, image: Image) -> bytes:
        local = self._storage.local
        with (
            local.reading(image.image_id),
            open_image(self._config, self._storage, image) as file,
        ):
            data = file.read()
        local.was_read(image.image_id)
        return data

    async def _open_stream(self, image: Image, start: int, stop: int) -> FileStream:
        read = partial(self._read_block, image)
        file = await self._call(open_image, self._config, self._storage, image)
        try:
            first = await self._call(read, file, start, stop) if start < stop else b''
        except BaseException:
            file.close()
            raise
        return FileStream(
            file, first, start, stop, read_block=partial(self._call, read)
        )

    def _read_block(
        self, image: Image, file: BinaryIO, position: int, stop: int
    ) -> bytes:
        with self._storage.local.reading(image.image_id):
            block = _read_at(file, position, min(BLOCK_SIZE, stop - position))
        if not block:
            raise StorageUnavailable('The stored file is shorter than expected.')
        if position + len(block) >= stop:
            self._storage.local.was_read(image.image_id)
        return block


def _release(task: asyncio.Task[FileStream]) -> None:
    """Close the file of a stream that its caller no longer waits for."""
    if not task.cancelled() and task.exception() is None:
        task.result().release()


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)
