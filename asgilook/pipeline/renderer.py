"""Rendering of thumbnails, from stored images and their previews."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from ..concurrency import CallInThread, Pool, SingleFlight
from ..config import Config
from ..errors import AsgilookError, ImageDamaged, StoredImageDamaged
from ..imaging import reduction, transform
from ..imaging.transform import Format
from ..metrics.registry import Metrics
from ..models import CheckDeadline, Image, Size
from ..storage.base import Storage
from ..storage.factory import open_image
from ..storage.previews import Previews

# Time without other work after which missing previews are made, in seconds.
IDLE_DELAY = 0.25
MAX_BACKLOG = 1000


class Renderer:
    """Renders thumbnails, and keeps the previews that small ones are made from.

    Every thumbnail up to the size of an image's preview is made from the preview, also
    if that has to be made first: so its bytes depend only on image and settings.

    Args:
        config: quality and sizes.
        storage: the files of images and previews.
        pool: threads for decoding and encoding.
        call: calls a blocking function of the storage in a thread.
        is_current: returns whether an image is still the stored one.
        metrics: where previews are counted.
    """

    def __init__(
        self,
        *,
        config: Config,
        storage: Storage,
        pool: Pool,
        call: CallInThread,
        is_current: Callable[[Image], Awaitable[bool]],
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._storage = storage
        self._pool = pool
        self._call = call
        self._is_current = is_current
        self._metrics = metrics
        renderer = f'{config.jpeg_quality}-{transform.RENDERER}'
        self._previews = Previews(storage.previews, renderer=renderer)
        self._renders: SingleFlight[tuple[Image, Size, Format], bytes] = SingleFlight()
        self._missing: SingleFlight[Image, bytes] = SingleFlight()
        self._backlog: deque[tuple[Image, Size]] = deque(maxlen=MAX_BACKLOG)
        self._filling: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Drop the backlog, and wait for running jobs."""
        self._backlog.clear()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
            self._filling = None
        await self._renders.stop()
        await self._missing.stop()

    async def render(self, image: Image, size: Size, format_: Format) -> bytes:
        """Return a thumbnail, made once for all concurrent callers."""
        run = partial(self._render, image, size, format_)
        return await self._renders.run((image, size, format_), run)

    async def store_preview(self, image: Image, preview: bytes | None) -> None:
        """Store the preview of a new image; if there is none yet, make it when idle."""
        if preview is not None:
            start = time.monotonic()
            await self._store(image, preview)
            self._observe('upload', start)
        elif (size := self._preview_size(image)) is not None:
            self._backlog.append((image, size))
            if self._filling is None or self._filling.done():
                self._filling = asyncio.create_task(self._fill())

    async def remove_preview(self, image_id: str) -> None:
        """Remove the preview of a removed image; a failure is logged."""
        await self._call(self._previews.remove, image_id)

    async def _render(self, image: Image, size: Size, format_: Format) -> bytes:
        preview_size = self._preview_size(image)
        if preview_size is None or size[0] > preview_size[0]:
            job = partial(self._from_image, image, size, format_)
            return await self._pool.run(job, 'thumbnail')
        preview = await self._load(image, preview_size, 'request')
        if size == preview_size and format_ == 'jpeg':
            return preview
        job = partial(self._from_preview, preview, size, format_)
        return await self._pool.run(job, 'thumbnail')

    def _preview_size(self, image: Image) -> Size | None:
        return reduction.preview_size(image.size, self._config.min_thumb_size)

    async def _load(self, image: Image, size: Size, reason: str) -> bytes:
        """Return the preview of an image; make it if necessary."""
        start = time.monotonic()
        preview = await self._call(self._previews.read, image)
        if preview is not None:
            self._observe('used', start)
            return preview
        return await self._missing.run(image, partial(self._make, image, size, reason))

    async def _make(self, image: Image, size: Size, reason: str) -> bytes:
        start = time.monotonic()
        job = partial(self._from_image, image, size, 'jpeg')
        preview = await self._pool.run(job, 'preview')
        if await self._is_stored(image):  # or else it may be of another image
            await self._store(image, preview)
        self._observe(reason, start)
        return preview

    async def _store(self, image: Image, preview: bytes) -> None:
        # NOTE(order): a deletion removes the image, then its preview. So a preview that
        # is stored meanwhile is removed either there or here.
        await self._call(self._previews.write, image, preview)
        if not await self._is_stored(image):
            await self._call(self._previews.remove, image.image_id)

    async def _is_stored(self, image: Image) -> bool:
        try:
            return await self._is_current(image)
        except AsgilookError:  # a preview must not fail a request
            return False

    async def _fill(self) -> None:
        """Make the previews of the backlog while there is nothing else to do."""
        while self._backlog:
            await asyncio.sleep(IDLE_DELAY)
            while self._backlog and not self._pool.pending:
                image, size = self._backlog.popleft()
                with contextlib.suppress(Exception):  # the next request reports it
                    await self._load(image, size, 'idle')

    def _from_image(
        self, image: Image, size: Size, format_: Format, check_deadline: CheckDeadline
    ) -> bytes:
        local = self._storage.local
        with (
            local.reading(image.image_id),
            open_image(self._config, self._storage, image) as file,
        ):
            data = file.read()
        try:
            thumbnail = transform.thumbnail(
                data,
                size,
                quality=self._config.jpeg_quality,
                check_deadline=check_deadline,
                format_=format_,
            )
        except ImageDamaged as ex:
            local.damaged(image.image_id, str(ex.__cause__ or ex))
            raise StoredImageDamaged('The stored image is damaged.') from ex
        local.intact(image.image_id)
        return thumbnail

    def _from_preview(
        self, preview: bytes, size: Size, format_: Format, check_deadline: CheckDeadline
    ) -> bytes:
        return transform.thumbnail(
            preview,
            size,
            quality=self._config.jpeg_quality,
            check_deadline=check_deadline,
            format_=format_,
            is_preview=True,
        )

    def _observe(self, event: str, start: float) -> None:
        self._metrics.previews.labels(event).observe(time.monotonic() - start)
