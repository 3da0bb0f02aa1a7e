"""The index in PostgreSQL or SQLite, shared by any number of machines.

The database alone states which images exist, so each look-up is a query, and no result
is older than its request. Concurrent look-ups share a query.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Set
from typing import Any

from cachetools import LRUCache
from sqlalchemy import (
    Executable,
    Uuid,
    any_,
    bindparam,
    delete,
    false,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import (
    DatabaseUnavailable,
    ImageExists,
    ImageNotFound,
    InvalidRequest,
    StorageUnavailable,
)
from ..models import UUID, Image, Page
from .batch import Batch
from .connection import Connector
from .schema import images

# Images that are served during an outage of the database; about half a kilobyte each.
MAX_RECENT = 16384

_ORDER = (images.c.modified_ns, images.c.id)
_OLDEST = select(images).order_by(*_ORDER)
_NEWEST = select(images).order_by(*(column.desc() for column in _ORDER))

# PERF: the text of a statement doesn't depend on the number of ids, as PostgreSQL plans
# each text anew.
_IDS = bindparam('ids', type_=ARRAY(Uuid(as_uuid=False)))
_LOOK_UP = {
    'postgresql': select(images).where(images.c.id == any_(_IDS)),
    'sqlite': select(images).where(images.c.id.in_(bindparam('ids', expanding=True))),
}

# Changes nothing, but fails in a read-only database. SQLite would wait for the changes
# of other processes to end, so there it is a query.
_TRIAL: dict[str, Executable] = {
    'postgresql': delete(images).where(false()),
    'sqlite': select(images.c.id).limit(1),
}


class DatabaseIndex:
    """An `Index` of the images in a database.

    While the database is unavailable, images that were requested recently count as
    existing, so that caches and the storage continue to serve them. Everything else
    raises `StorageUnavailable`.

    Args:
        url: `postgresql://user:password@host/name`, or `sqlite:///absolute/path`.
    """

    def __init__(self, url: str) -> None:
        self._database = Connector(url)
        self._recent: LRUCache[str, Image] = LRUCache(MAX_RECENT)
        self._lookups: Batch[Image]
        self._trials: Batch[Image]

    async def start(self) -> None:
        """Connect, and create the tables; raises `ConfigError`."""
        self._lookups = Batch(self._find)
        self._trials = Batch(self._try_change)
        await self._database.start()

    async def stop(self) -> None:
        """Wait for the look-ups in progress, and close the connections."""
        await self._lookups.stop()
        await self._trials.stop()
        await self._database.stop()

    async def get(self, image_id: str) -> Image | None:
        """Return the image, or None."""
        # NOTE(shared query): an invalid id would fail the look-ups of other requests.
        if not UUID.fullmatch(image_id):
            return None
        try:
            return await self._lookups.get(image_id)
        except DatabaseUnavailable:
            if image_id in self._recent:
                return self._recent[image_id]
            raise

    async def is_current(self, image: Image) -> bool:
        """Return whether the database has exactly this image."""
        return await self.get(image.image_id) == image

    async def page(
        self, limit: int, after: str | None = None, *, newest: bool = False
    ) -> Page:
        """Return up to `limit` images, oldest or newest first.

        Its state is a hash of the images in their order. Raises `InvalidRequest` if
        `after` names no image.
        """
        query = (_NEWEST if newest else _OLDEST).limit(limit + 1)
        if after is not None:
            last = await self.get(after)
            if last is None:
                raise InvalidRequest('The parameter after is not the id of an image.')
            # PERF: one comparison of rows, so that the database reads only the page.
            position = tuple_(*_ORDER)
            query = query.where(
                position < last.order if newest else position > last.order
            )

        async def fetch(connection: AsyncConnection, attempt: int) -> Any:
            return (await connection.execute(query)).all()

        rows = await self._database.read(fetch)
        found, more = [_image(row) for row in rows[:limit]], len(rows) > limit
        self._recent.update((image.image_id, image) for image in found)
        return Page(found, more, _hash((rows[:limit], more)))

    async def version(self) -> str | None:
        """Return None: only a query can determine the state of a list."""
        return None

    async def count(self) -> int:
        """Return the number of images; this reads an index from end to end."""

        async def fetch(connection: AsyncConnection, attempt: int) -> Any:
            return await connection.scalar(select(func.count()).select_from(images))

        return int(await self._database.read(fetch))

    async def add(self, image: Image) -> None:
        """Insert an image: committed when this returns.

        Adding an equal image again changes nothing, since it may be a second attempt.
        Raises `OutcomeUnknown` if the database became unavailable meanwhile: the image
        may be listed then, so its file must stay. After any other error it is not.
        """

        async def put(connection: AsyncConnection, attempt: int) -> bool:
            width, height = image.size
            row = (image.image_id, width, height, image.length, image.modified_ns)
            with contextlib.suppress(IntegrityError):
                await connection.execute(insert(images).values(row))
                return True
            found = await _query(connection, {image.image_id})
            return found.get(image.image_id) == image

        if not await self._database.write(put):
            raise ImageExists('Another image has this id.')
        self._recent[image.image_id] = image

    async def remove(self, image_id: str) -> None:
        """Delete an image: committed when this returns; raises `ImageNotFound`."""
        query = delete(images).where(images.c.id == image_id)

        async def drop(connection: AsyncConnection, attempt: int) -> bool:
            deleted = (await connection.execute(query)).rowcount
            return deleted > 0 or attempt > 1  # the first attempt may have deleted it

        self._recent.pop(image_id, None)
        if not await self._database.write(drop):
            raise ImageNotFound('There is no such image.')
        # NOTE(race): a look-up that began before the deletion may have ended since.
        self._recent.pop(image_id, None)

    async def is_usable(self) -> bool:
        """Return whether the database responds, and accepts changes."""
        try:
            await self._trials.get('')
        except StorageUnavailable:
            return False
        return True

    async def _try_change(self, keys: Set[str]) -> dict[str, Image]:
        async def change(connection: AsyncConnection, attempt: int) -> None:
            await connection.execute(_TRIAL[connection.dialect.name])

        await self._database.write(change)
        return {}

    async def _find(self, ids: Set[str]) -> dict[str, Image]:
        async def look_up(
            connection: AsyncConnection, attempt: int
        ) -> dict[str, Image]:
            return await _query(connection, ids)

        found = await self._database.read(look_up)
        for image_id in ids - found.keys():
            self._recent.pop(image_id, None)
        self._recent.update(found)
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
