"""Thumbnails: previews as they are stored, and renders of images and previews."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

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

T = TypeVar('T')

# Time without other work after which missing previews are made, in seconds.
IDLE_DELAY = 0.25
MAX_BACKLOG = 1000


class Renderer:
    """Renders thumbnails, and keeps the small ones of large images as previews.

    The previews of an image are always made together, and WebP thumbnails of their
    sizes from the largest one. So the bytes depend only on image and settings.

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
        self._missing: SingleFlight[Image, list[bytes]] = SingleFlight()
        self._backlog: deque[Image] = deque(maxlen=MAX_BACKLOG)
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
        """Return a thumbnail; a render or decode serves all concurrent callers."""
        sizes = self._preview_sizes(image)
        if size in sizes and format_ == 'jpeg':
            return await self._load(image, sizes, sizes.index(size), 'request')
        run = partial(self._render, image, size, format_, sizes)
        return await self._renders.run((image, size, format_), run)

    async def store_previews(self, image: Image, previews: list[bytes]) -> None:
        """Store the previews of a new image; those not made yet are made when idle."""
        if previews:
            start = time.monotonic()
            await self._store(image, previews)
            self._observe('upload', start)
        elif self._preview_sizes(image):
            self._backlog.append(image)
            if self._filling is None or self._filling.done():
                self._filling = asyncio.create_task(self._fill())

    async def remove_previews(self, image_id: str) -> None:
        """Remove the previews of a removed image; a failure is logged."""
        await self._call(self._previews.remove, image_id)

    async def _render(
        self, image: Image, size: Size, format_: Format, sizes: list[Size]
    ) -> bytes:
        if size in sizes:
            preview = await self._load(image, sizes, 0, 'request')
            job = partial(self._from_preview, preview, size, format_)
        else:
            job = partial(self._from_image, image, size, format_)
        return await self._pool.run(job, 'thumbnail')

    def _preview_sizes(self, image: Image) -> list[Size]:
        return reduction.preview_sizes(image.size, self._config.min_thumb_size)

    async def _load(
        self, image: Image, sizes: list[Size], number: int, reason: str
    ) -> bytes:
        """Return one of the previews of an image; make all if necessary."""
        start = time.monotonic()
        preview = await self._call(self._previews.read, image, number, len(sizes))
        if preview is not None:
            self._observe('used', start)
            return preview
        make = partial(self._make, image, sizes, reason)
        return (await self._missing.run(image, make))[number]

    async def _make(self, image: Image, sizes: list[Size], reason: str) -> list[bytes]:
        start = time.monotonic()
        job = partial(self._make_previews, image, sizes)
        previews = await self._pool.run(job, 'preview')
        if await self._is_stored(image):  # or else they may be of another image
            await self._store(image, previews)
        self._observe(reason, start)
        return previews

    async def _store(self, image: Image, previews: list[bytes]) -> None:
        # NOTE(order): a deletion removes the image, then its previews. So previews that
        # are stored meanwhile are removed either there or here.
        await self._call(self._previews.write, image, previews)
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
                image = self._backlog.popleft()
                sizes = self._preview_sizes(image)
                with contextlib.suppress(Exception):  # the next request reports it
                    await self._load(image, sizes, 0, 'idle')

    def _make_previews(
        self, image: Image, sizes: list[Size], check_deadline: CheckDeadline
    ) -> list[bytes]:
        make = partial(
            transform.previews,
            sizes=sizes,
            quality=self._config.jpeg_quality,
            check_deadline=check_deadline,
        )
        return self._decode(image, make)

    def _from_image(
        self, image: Image, size: Size, format_: Format, check_deadline: CheckDeadline
    ) -> bytes:
        render = partial(
            transform.thumbnail,
            size=size,
            quality=self._config.jpeg_quality,
            check_deadline=check_deadline,
            format_=format_,
        )
        return self._decode(image, render)

    def _decode(self, image: Image, render: Callable[[bytes], T]) -> T:
        """Return what is rendered from a stored image; log whether it is damaged."""
        local = self._storage.local
        with (
            local.reading(image.image_id),
            open_image(self._config, self._storage, image) as file,
        ):
            data = file.read()
        try:
            rendered = render(data)
        except ImageDamaged as ex:
            local.damaged(image.image_id, str(ex.__cause__ or ex))
            raise StoredImageDamaged('The stored image is damaged.') from ex
        local.intact(image.image_id)
        return rendered

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
