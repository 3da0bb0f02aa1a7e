"""Part of `asgilook check`: finds previews whose image no longer exists."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice

from ..errors import AsgilookError, ImageUnreadable
from .places import Place

_BATCH_SIZE = 1000


class PreviewCheck:
    """Looks up the image of each preview, and prints the previews without one.

    Args:
        place: storage and index.
        remove: whether to remove previews without an image.

    Attributes:
        orphans: number of previews without an image.
        removed: number of them that were removed.
        failure: exception that ended the check.
    """

    def __init__(self, place: Place, *, remove: bool) -> None:
        self._place = place
        self._previews = place.storage.previews
        self._remove = remove
        self.orphans = 0
        self.removed = 0
        self.failure: Exception | None = None

    async def run(self) -> None:
        """Check all previews."""
        try:
            await self._check_all()
        except (AsgilookError, OSError) as ex:
            self.failure = ex

    async def _check_all(self) -> None:
        image_ids = self._previews.image_ids()
        while batch := await asyncio.to_thread(list, islice(image_ids, _BATCH_SIZE)):
            for image_id in batch:
                with suppress(ImageUnreadable):  # then the image exists
                    if await self._place.index.get(image_id) is None:
                        await self._report(image_id)

    async def _report(self, image_id: str) -> None:
        self.orphans += 1
        print(f'{image_id} has a preview, but no image')
        if self._remove:
            await asyncio.to_thread(self._previews.remove, image_id)
            self.removed += 1
