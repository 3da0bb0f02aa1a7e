"""The store: saves uploads as JPEG and renders thumbnails; independent of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import aiofiles.tempfile

from .concurrency import Pool
from .config import Config
from .errors import (
    AsgilookError,
    ImageNotFound,
    StorageUnavailable,
)
from .imaging import transform
from .imaging.transform import Format
from .index.factory import make_index
from .metrics.registry import Metrics
from .models import Image, Page, Size
from .pipeline.ingest import Ingest
from .pipeline.renderer import Renderer
from .storage.factory import (
    local_folder,
    make_storage,
    make_threads,
)
from .storage.stream import FileStream, ImageReader

__all__ = ['Image', 'Store']

T = TypeVar('T')

log = logging.getLogger(__name__)

# Time for running uploads after the server has given up waiting, in seconds.
SHUTDOWN_TIMEOUT = 2.0


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
        self._ingest = Ingest(
            config=config,
            storage=self._storage,
            index=self._index,
            pool=self._pool,
            renderer=self._renderer,
            call=self._call,
            metrics=self._metrics,
        )
        self._reader = ImageReader(
            config=config, storage=self._storage, call=self._call
        )

    async def start(self) -> None:
        """Open storage and index, if they can be used now; raises `ConfigError`."""
        transform.configure(self._config.max_pixels)
        self._threads = make_threads(self._config)
        await self._call(self._storage.start)
        await self._index.start()
        self._pool.start()

    async def stop(self) -> None:
        """Finish running uploads if they end soon, and release all resources."""
        await self._ingest.settle(SHUTDOWN_TIMEOUT)
        await self._pool.stop()
        await self._ingest.settle(None)
        await self._renderer.stop()
        await self._index.stop()
        await self._call(self._storage.stop)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    def is_usable(self) -> bool:
        """Return whether the storage can be used now; this may block."""
        return self._storage.is_usable()

    async def database_state(self) -> Literal['up', 'down', 'none']:
        """Return the state of the database; `none` if there is none."""
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
        """Open an unnamed aiofiles file for the bytes of an upload.

        Raises `Busy` or `StorageUnavailable` before any of the body is read, if the
        queue is full, or the index or the storage is unavailable.
        """
        self._pool.admit()
        if not await self._index.is_usable():
            raise StorageUnavailable('The database is unavailable or read-only.')
        self._storage.local.prepare()
        with self._storage.local.writing():
            async with aiofiles.tempfile.TemporaryFile('w+b', dir=self._folder) as file:
                yield file

    async def save(self, image_id: str, upload: Any, *, once: bool = False) -> Image:
        """Store an upload as JPEG; when this returns, it survives a power failure.

        Cancelling the caller does not stop it. With `once`, an image that exists is
        kept, and one whose upload was interrupted before it was listed is completed.
        Raises `UnsupportedFormat`, `ImageDamaged`, `UploadTooLarge`, `Busy`,
        `ImageExists`, `StorageFull` or `StorageUnavailable`; then nothing is stored.
        """
        return await self._ingest.save(image_id, upload, once=once)

    async def get(self, image_id: str) -> Image:
        """Return an image that exists at this moment, or raise `ImageNotFound`."""
        image = await self._index.get(image_id)
        if image is None:
            raise ImageNotFound('There is no such image.')
        return image

    def is_current(self, image: Image) -> Awaitable[bool]:
        """Return whether an image is still the one that is stored."""
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
        return await self._reader.read(image)

    async def open_stream(self, image: Image, start: int, stop: int) -> FileStream:
        """Open an image file, and read its first block from `start` on.

        The stream yields the bytes up to `stop`, in blocks of 1 MiB at most. Raises
        `ImageNotFound` or `StorageUnavailable`, as does the stream.
        """
        return await self._reader.open_stream(image, start, stop)

    async def make_thumbnail(
        self, image: Image, size: Size, format_: Format = 'jpeg'
    ) -> bytes:
        """Return a thumbnail of a listed size; a render serves all concurrent callers.

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
                raise  # the file is the image
            log.warning('deleted %s, but not its file: %s', image.image_id, ex)
        await self._renderer.remove_previews(image.image_id)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a blocking function in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)
