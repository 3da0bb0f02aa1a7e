from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from asgilook.errors import ImageExists, StorageUnavailable
from asgilook.index.database import DatabaseIndex
from asgilook.models import Image

from ..conftest import apart
from ..databases import Database

T = TypeVar('T')


def make_image(number: int = 1) -> Image:
    """Make an image; older images have smaller numbers."""
    modified_ns = 1_700_000_000_000_000_000 + number
    return Image(str(uuid.UUID(int=number)), (512, 256), 2**33 + number, modified_ns)


def within(db: Database, scenario: Callable[[DatabaseIndex], Awaitable[T]]) -> T:
    """Run a scenario on an index, from its start to its stop."""

    async def main() -> T:
        index = DatabaseIndex(db.url)
        await index.start()
        try:
            return await scenario(index)
        finally:
            await index.stop()

    result: T = apart(asyncio.run, main())
    return result


def test_image_is_stored_exactly(db: Database) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        assert await index.get(image.image_id) == image
        assert await index.is_current(image)
        other = dataclasses.replace(image, modified_ns=image.modified_ns + 1)
        assert not await index.is_current(other)

    within(db, scenario)
    ((image_id, *rest),) = db.execute('SELECT * FROM images')
    assert uuid.UUID(str(image_id)) == uuid.UUID(image.image_id)
    assert rest == [512, 256, image.length, image.modified_ns]


def test_index_may_be_started_again(db: Database) -> None:
    """On any event loop, as Falcon's TestClient does for each request."""
    index = DatabaseIndex(db.url)
    image = make_image()

    async def main() -> Image | None:
        await index.start()
        if not (await index.page(1)).images:
            await index.add(image)
        found = await index.get(image.image_id)
        await index.stop()
        return found

    assert [asyncio.run(main()) for _ in range(3)] == [image] * 3


def test_state_depends_only_on_the_page(db: Database) -> None:
    async def scenario(index: DatabaseIndex) -> None:
        for number in (1, 2, 3):
            await index.add(make_image(number))
        page = await index.page(1)
        await index.remove(make_image(2).image_id)
        assert await index.page(1) == page

    within(db, scenario)


def test_state_depends_on_the_order(db: Database) -> None:
    async def scenario(index: DatabaseIndex) -> None:
        for number in (1, 2):
            await index.add(make_image(number))
        pages = [await index.page(9, newest=newest) for newest in (False, True, False)]
        assert pages[0].state != pages[1].state
        assert pages[0] == pages[2]

    within(db, scenario)


def test_is_usable_changes_nothing(db: Database) -> None:
    image = make_image(0)  # the nil UUID

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        assert await index.is_usable()
        assert (await index.page(9)).images == [image]

    within(db, scenario)


def test_existing_id_is_rejected(db: Database) -> None:
    image = make_image()
    other = dataclasses.replace(image, size=(1, 1))

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        with pytest.raises(ImageExists):
            await index.add(other)
        assert await index.get(image.image_id) == image
        await index.add(image)
        assert (await index.page(9)).images == [image]

    within(db, scenario)


def test_concurrent_lookups_share_a_query(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        read, calls = index._database.read, []

        async def counted(work: object) -> object:
            calls.append(work)
            return await read(work)  # type: ignore[arg-type]

        monkeypatch.setattr(index._database, 'read', counted)
        lookups = [index.is_current(image) for _ in range(50)]
        assert await asyncio.gather(*lookups) == [True] * 50
        assert len(calls) == 1

    within(db, scenario)


def test_missing_table(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A database that rejects statements is not replaced by memory."""
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        db.execute('DROP TABLE images')
        requests: list[Awaitable[object]] = [
            index.get(image.image_id),
            index.page(1),
            index.add(image),
            index.remove(image.image_id),
        ]
        for request in requests:
            (result,) = await asyncio.gather(request, return_exceptions=True)
            assert type(result) is StorageUnavailable
        assert not await index.is_usable()

    within(db, scenario)
    (record,) = caplog.records
    assert 'failed' in record.getMessage()
    assert 'images' in record.getMessage()
