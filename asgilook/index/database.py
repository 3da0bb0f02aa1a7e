"""What exists: an index in PostgreSQL or SQLite, which is the truth about it.

Any number of machines share it. No answer is older than its request, so each look-up
is a query; those that overlap in time share one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Set
from typing import Any

from cachetools import LRUCache
from sqlalchemy import Uuid, any_, bindparam, delete, func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import (
    DatabaseGone,
    ImageExists,
    ImageNotFound,
    InvalidRequest,
    StorageUnavailable,
)
from ..models import UUID, Image, Page
from .batch import Batch
from .connection import Connector
from .schema import images

# Images that are known while the database is gone; about half a kilobyte each.
_MOST = 16384

# No image has it: to ask for it only shows that the database answers.
_NIL = '00000000-0000-0000-0000-000000000000'

_ORDER = (images.c.modified_ns, images.c.id)
_PAGE = select(images).order_by(*_ORDER)

# The text of a statement must not depend on how many it asks for, or PostgreSQL has to
# plan each anew.
_IDS = bindparam('ids', type_=ARRAY(Uuid(as_uuid=False)))
_LOOK_UP = {
    'postgresql': select(images).where(images.c.id == any_(_IDS)),
    'sqlite': select(images).where(images.c.id.in_(bindparam('ids', expanding=True))),
}


class DatabaseIndex:
    """The images of a database; an `Index`.

    While the database is gone, images that were seen lately count as existing: what
    caches and the storage have of them goes on being served. All else raises
    `StorageUnavailable`.

    Args:
        url: `postgresql://user:password@host/name`, or `sqlite:///absolute/path`.
    """

    def __init__(self, url: str) -> None:
        self._database = Connector(url)
        self._seen: LRUCache[str, Image] = LRUCache(_MOST)
        self._lookups: Batch[Image]

    async def start(self) -> None:
        """Connect, and make the tables; raises `ConfigError`."""
        self._lookups = Batch(self._find)
        await self._database.start()

    async def stop(self) -> None:
        """Let look-ups end, and close the connections."""
        await self._lookups.stop()
        await self._database.stop()

    async def get(self, image_id: str) -> Image | None:
        """Return the image, or None."""
        if not UUID.fullmatch(image_id):  # it would fail all that share its query
            return None
        try:
            return await self._lookups.get(image_id)
        except DatabaseGone:
            if image_id in self._seen:
                return self._seen[image_id]
            raise

    async def is_current(self, image: Image) -> bool:
        """Tell whether this is what the database has."""
        return await self.get(image.image_id) == image

    async def page(self, limit: int, after: str | None = None) -> Page:
        """Return up to `limit` images, oldest first; its state is a hash of them.

        Raises `InvalidRequest` where `after` names no image.
        """
        query = _PAGE.limit(limit + 1)
        if after is not None:
            last = await self.get(after)
            if last is None:
                raise InvalidRequest('The parameter after names no image.')
            query = query.where(tuple_(*_ORDER) > last.order)

        async def fetch(connection: AsyncConnection) -> Any:
            return (await connection.execute(query)).all()

        rows = await self._database.run(fetch)
        found, more = [_image(row) for row in rows[:limit]], len(rows) > limit
        self._seen.update((image.image_id, image) for image in found)
        return Page(found, more, _hash((rows[:limit], more)))

    async def count(self) -> int:
        """Return the number of images."""

        async def fetch(connection: AsyncConnection) -> Any:
            return await connection.scalar(select(func.count()).select_from(images))

        return int(await self._database.run(fetch))

    async def add(self, image: Image) -> None:
        """Insert an image: committed when this returns.

        To add the very same image again changes nothing, since it may be the second
        try. Raises `OutcomeUnknown` where the database was lost meanwhile: the image
        may be listed then, so its file must stay; after any other error it is not.
        """

        async def put(connection: AsyncConnection) -> bool:
            width, height = image.size
            row = (image.image_id, width, height, image.length, image.modified_ns)
            with contextlib.suppress(IntegrityError):
                await connection.execute(insert(images).values(row))
                return True
            found = await _query(connection, {image.image_id})
            return found.get(image.image_id) == image

        if not await self._database.run(put):
            raise ImageExists('There is another image of this id.')
        self._seen[image.image_id] = image

    async def remove(self, image_id: str) -> None:
        """Delete an image: committed when this returns; raises `ImageNotFound`."""
        tries = 0

        async def drop(connection: AsyncConnection) -> bool:
            nonlocal tries
            tries += 1
            query = delete(images).where(images.c.id == image_id)
            deleted = (await connection.execute(query)).rowcount
            return deleted > 0 or tries > 1  # the first may have done it unheard

        self._seen.pop(image_id, None)
        if not await self._database.run(drop):
            raise ImageNotFound('There is no such image.')
        self._seen.pop(image_id, None)  # a look-up may have come between

    async def is_usable(self) -> bool:
        """Ask the database whether it answers."""
        try:
            await self._lookups.get(_NIL)
        except StorageUnavailable:
            return False
        return True

    async def _find(self, ids: Set[str]) -> dict[str, Image]:
        async def look_up(connection: AsyncConnection) -> dict[str, Image]:
            return await _query(connection, ids)

        found = await self._database.run(look_up)
        for image_id in ids - found.keys():
            self._seen.pop(image_id, None)
        self._seen.update(found)
        return found


async def _query(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Image]:
    query = _LOOK_UP[connection.dialect.name]
    rows = await connection.execute(query, {'ids': list(ids)})
    return {row.id: _image(row) for row in rows}


def _image(row: Any) -> Image:
    image_id, width, height, length, modified_ns = row
    return Image(image_id, (width, height), length, modified_ns)


def _hash(answer: Any) -> str:
    return hashlib.blake2b(repr(answer).encode(), digest_size=16).hexdigest()
