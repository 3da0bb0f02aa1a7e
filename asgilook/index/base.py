"""The interface of an index, which states which images exist."""

from __future__ import annotations

from typing import Protocol

from ..models import Image, Page


class Index(Protocol):
    """The images that exist, as every process of the service sees them.

    Raises `StorageUnavailable` if that can't be determined.
    """

    async def start(self) -> None:
        """Open the index."""
        ...

    async def stop(self) -> None:
        """Release its resources; it may be started again."""
        ...

    async def get(self, image_id: str) -> Image | None:
        """Return an image that exists at this moment, or None."""
        ...

    async def is_current(self, image: Image) -> bool:
        """Return whether the stored image is still this one, for a cached response.

        It is called for every cache hit, so it must be cheap.
        """
        ...

    async def page(
        self, limit: int, after: str | None = None, *, newest: bool = False
    ) -> Page:
        """Return up to `limit` images, from the oldest on or from the newest on.

        They follow the image with the id `after` in that order. A page costs the same
        anywhere in a list of any length. Raises `InvalidRequest` if `after` names no
        image.
        """
        ...

    async def version(self) -> str | None:
        """Return the state of the whole list, or None if only `page` can determine it.

        It is the same for equal lists, from any process, and differs after every
        change; it is the `state` of each page. This costs the same for a list of any
        length.
        """
        ...

    async def count(self) -> int:
        """Return the number of images.

        In a database this reads an index from end to end: about 0.1 seconds for a
        million images. It is meant for a metric, not for each request.
        """
        ...

    async def add(self, image: Image) -> None:
        """List an image that is stored; when this returns, every process sees it."""
        ...

    async def remove(self, image_id: str) -> None:
        """Remove an image, or raise `ImageNotFound`."""
        ...

    async def is_usable(self) -> bool:
        """Return whether the index responds now, and accepts changes."""
        ...
