"""What exists: what any index does, in memory or in a database."""

from __future__ import annotations

from typing import Protocol

from ..models import Image, Page


class Index(Protocol):
    """The images that exist, for any number of processes.

    Raises `StorageUnavailable` where what exists can't be known now.
    """

    async def start(self) -> None:
        """Make it usable."""
        ...

    async def stop(self) -> None:
        """Give back what it holds; it may be started again."""
        ...

    async def get(self, image_id: str) -> Image | None:
        """Return an image that exists at this moment, or None."""
        ...

    async def is_current(self, image: Image) -> bool:
        """Tell whether the image is still the one that is stored, for a cached answer.

        This is asked for every hit, so it has to be cheap.
        """
        ...

    async def page(self, limit: int, after: str | None = None) -> Page:
        """Return up to `limit` images that follow the one with the id `after`.

        Raises `InvalidRequest` where `after` names no image.
        """
        ...

    async def count(self) -> int:
        """Return the number of images."""
        ...

    async def add(self, image: Image) -> None:
        """Take in an image that is stored; when this returns, every process sees it."""
        ...

    async def remove(self, image_id: str) -> None:
        """Let an image exist no more, or raise `ImageNotFound`."""
        ...

    async def is_usable(self) -> bool:
        """Tell whether it can say what exists now."""
        ...
