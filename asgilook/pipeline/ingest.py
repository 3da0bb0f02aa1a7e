"""Conversion, storing and listing of uploads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from typing import Any, BinaryIO

from ..concurrency import CallInThread, Pool, outlive
from ..config import Config
from ..errors import (
    DeadlineExceeded,
    ImageDamaged,
    ImageExists,
    OutcomeUnknown,
    StorageUnavailable,
)
from ..imaging import jpeg, transform
from ..index.base import Index
from ..metrics.registry import Metrics
from ..models import CheckDeadline, Image, Size
from ..storage.base import NewObject, Storage
from ..storage.factory import is_remote
from .renderer import Renderer


class Ingest:
    """Converts uploads to JPEG, stores them, and lists them, in this order.

    Args:
        config: limits and quality.
        storage: where the files are stored.
        index: where the images are listed.
        pool: threads for decoding and encoding.
        renderer: keeps the previews that are made at upload.
        call: calls a blocking function of the storage in a thread.
        metrics: where uploads are counted.
    """

    def __init__(
        self,
        *,
        config: Config,
        storage: Storage,
        index: Index,
        pool: Pool,
        renderer: Renderer,
        call: CallInThread,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._storage = storage
        self._index = index
        self._pool = pool
        self._renderer = renderer
        self._call = call
        self._metrics = metrics
        self._running: set[asyncio.Task[Image]] = set()

    async def save(self, image_id: str, upload: Any, *, once: bool) -> Image:
        """Store an upload, an aiofiles file; see `Store.save`."""
        with self._storage.local.writing():
            await upload.flush()
        source = os.fdopen(os.dup(upload.fileno()), 'rb')
        task = asyncio.create_task(self._save(image_id, source, once=once))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await outlive(task)

    async def settle(self, seconds: float | None) -> None:
        """Wait for running uploads, for a limited time or until their end."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def _save(self, image_id: str, source: BinaryIO, *, once: bool) -> Image:
        with source, self._storage.local.writing():
            new = await self._call(self._storage.create)
            try:
                job = partial(self._convert, source, new.file)
                converted = await self._pool.run(job, 'upload')
                self._metrics.uploads.labels(converted.format.lower()).inc()
                image = await self._publish(new, image_id, converted.size, once=once)
                await self._renderer.store_previews(image, converted.previews)
                return image
            except DeadlineExceeded as ex:
                raise ImageDamaged(str(ex)) from ex
            finally:
                await self._call(new.close)

    async def _publish(
        self, new: NewObject, image_id: str, size: Size, *, once: bool
    ) -> Image:
        """Store the file first and list it then, so that every listed image exists."""
        try:
            published = await self._call(partial(new.publish, exclusive=once), image_id)
        except ImageExists:
            if not once or await self._index.get(image_id) is not None:
                raise
            image = await self._call(self._identify_unlisted, image_id)
            if image is None:  # not even complete
                await self._call(self._storage.remove, image_id)
                return await self._publish(new, image_id, size, once=once)
        else:
            image = Image(image_id, size, *published)
        try:
            await self._index.add(image)
        except (OutcomeUnknown, asyncio.CancelledError):
            raise  # it may be listed, so its file has to exist
        except BaseException:
            # With `once`, another worker may have listed the same file.
            if not once or await self._is_unlisted(image_id):
                await self._call(self._storage.remove, image_id)
            raise
        return image

    async def _is_unlisted(self, image_id: str) -> bool:
        with contextlib.suppress(StorageUnavailable):
            return await self._index.get(image_id) is None
        return False

    def _identify_unlisted(self, image_id: str) -> Image | None:
        """Return the image of a file that is not listed; None if it is damaged."""
        with self._storage.open(image_id) as file:
            try:
                size = jpeg.read_size(file)
            except ValueError:
                return None
            length = file.seek(0, os.SEEK_END)
            modified_ns = time.time_ns()
            if not is_remote(self._config):
                modified_ns = os.fstat(file.fileno()).st_mtime_ns
        return Image(image_id, size, length, modified_ns)

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
