from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from asgilook.database import DatabaseIndex
from asgilook.errors import ImageNotFound, InvalidRequest, StorageUnavailable
from asgilook.image import Image

from .conftest import apart
from .databases import Database

T = TypeVar('T')


def make_image(number: int = 1, modified_ns: int | None = None) -> Image:
    """Make an image: older ones have smaller numbers."""
    image_id = str(uuid.UUID(int=(number << 64) + 1))
    if modified_ns is None:
        modified_ns = 1_700_000_000_000_000_000 + number
    return Image(image_id, (512, 256), 2**33 + number % 99, modified_ns)


def within(database: Database, scenario: Callable[[DatabaseIndex], Awaitable[T]]) -> T:
    """Run a scenario on an index, from its start to its stop."""

    async def main() -> T:
        index = DatabaseIndex(database.url)
        await index.start()
        try:
            return await scenario(index)
        finally:
            await index.stop()

    return apart(asyncio.run, main())


def test_empty_index(database: Database) -> None:
    async def scenario(index: DatabaseIndex) -> None:
        page = await index.page(10)
        assert (page.images, page.more) == ([], False)
        assert await index.get(make_image().image_id) is None
        assert not await index.is_current(make_image())
        assert await index.is_usable()

    within(database, scenario)


def test_image_is_kept_exactly(database: Database) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        assert await index.get(image.image_id) == image
        assert await index.is_current(image)
        other = dataclasses.replace(image, modified_ns=image.modified_ns + 1)
        assert not await index.is_current(other)

    within(database, scenario)
    ((image_id, *rest),) = database.execute('SELECT * FROM images')
    assert uuid.UUID(str(image_id)) == uuid.UUID(image.image_id)
    assert rest == [512, 256, image.length, image.modified_ns]


def test_other_processes_see_a_change_at_once(database: Database) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        other = DatabaseIndex(database.url)
        await other.start()
        assert await other.get(image.image_id) is None
        await index.add(image)
        assert await other.get(image.image_id) == image
        assert (await other.page(1)).images == [image]
        await other.remove(image.image_id)
        assert await index.get(image.image_id) is None
        assert not await index.is_current(image)
        assert (await index.page(1)).images == []
        await other.stop()

    within(database, scenario)


def test_index_may_be_started_again(database: Database) -> None:
    """On any event loop, as falcon's TestClient does it for each request."""
    index = DatabaseIndex(database.url)
    image = make_image()

    async def main() -> Image | None:
        await index.start()
        if not (await index.page(1)).images:
            await index.add(image)
        found = await index.get(image.image_id)
        await index.stop()
        return found

    assert [asyncio.run(main()) for _ in range(3)] == [image] * 3


@pytest.mark.parametrize('limit', [1, 2, 3, 4])
def test_pages(database: Database, limit: int) -> None:
    """Oldest first; images of the same time are in the order of their ids."""
    images = [make_image(number) for number in (1, 2)]
    images += [make_image(number, 2 * 10**18) for number in (0xF << 60, 10, 9)]

    async def scenario(index: DatabaseIndex) -> list[list[Image]]:
        for image in images:
            await index.add(image)
        pages = [await index.page(limit)]
        while pages[-1].more:
            pages.append(await index.page(limit, pages[-1].images[-1].image_id))
        return [page.images for page in pages]

    expected = sorted(images, key=lambda image: image.order)
    starts = range(0, len(images), limit)
    assert within(database, scenario) == [expected[n : n + limit] for n in starts]


def test_page_after_no_image(database: Database) -> None:
    async def scenario(index: DatabaseIndex) -> None:
        with pytest.raises(InvalidRequest, match='after'):
            await index.page(1, make_image().image_id)

    within(database, scenario)


def test_state_of_a_page(database: Database) -> None:
    async def scenario(index: DatabaseIndex) -> list[str]:
        other = DatabaseIndex(database.url)
        await other.start()
        states = [(await index.page(2)).state]
        for number in (2, 1, 3):
            await index.add(make_image(number))
            states.append((await index.page(2)).state)
            assert (await other.page(2)).state == states[-1]
        await index.remove(make_image(1).image_id)
        states.append((await index.page(2)).state)
        await other.stop()
        return states

    assert len(set(within(database, scenario))) == 5


def test_state_of_a_page_tells_no_more_than_it_shows(database: Database) -> None:
    async def scenario(index: DatabaseIndex) -> None:
        for number in (1, 2, 3):
            await index.add(make_image(number))
        page = await index.page(1)
        await index.remove(make_image(2).image_id)
        assert await index.page(1) == page

    within(database, scenario)


def test_uuid_that_is_there_already(database: Database) -> None:
    image = make_image()
    other = dataclasses.replace(image, size=(1, 1))

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        with pytest.raises(FileExistsError, match=image.image_id):
            await index.add(other)
        assert await index.get(image.image_id) == image
        await index.add(image)
        assert (await index.page(9)).images == [image]

    within(database, scenario)


def test_image_is_removed_once(database: Database) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        await index.remove(image.image_id)
        with pytest.raises(ImageNotFound):
            await index.remove(image.image_id)
        assert await index.get(image.image_id) is None

    within(database, scenario)


def test_removal_by_two_at_once(database: Database) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        removals = [index.remove(image.image_id) for _ in range(5)]
        results = await asyncio.gather(*removals, return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, ImageNotFound) for result in results) == 4

    within(database, scenario)


def test_many_at_once(database: Database) -> None:
    images = [make_image(number) for number in range(100)]

    async def scenario(index: DatabaseIndex) -> None:
        await asyncio.gather(*(index.add(image) for image in images))
        assert (await index.page(100)).images == images
        found = await asyncio.gather(*(index.get(image.image_id) for image in images))
        assert found == images
        await asyncio.gather(*(index.remove(image.image_id) for image in images[1:]))
        assert (await index.page(100)).images == images[:1]

    within(database, scenario)


def test_lookups_at_once_are_one_query(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        run, calls = index._database.run, []

        async def counted(work: object) -> object:
            calls.append(work)
            return await run(work)  # type: ignore[arg-type]

        monkeypatch.setattr(index._database, 'run', counted)
        lookups = [index.is_current(image) for _ in range(50)]
        assert await asyncio.gather(*lookups) == [True] * 50
        assert len(calls) == 1

    within(database, scenario)


def test_table_that_is_gone(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The database says no: then nothing is answered from memory."""
    image = make_image()

    async def scenario(index: DatabaseIndex) -> None:
        await index.add(image)
        database.execute('DROP TABLE images')
        requests: list[Awaitable[object]] = [
            index.get(image.image_id),
            index.page(1),
            index.add(image),
            index.remove(image.image_id),
        ]
        for request in requests:
            with pytest.raises(StorageUnavailable) as caught:
                await request
            assert type(caught.value) is StorageUnavailable
        assert not await index.is_usable()

    within(database, scenario)
    (record,) = caplog.records
    assert 'refuses' in record.getMessage()
    assert 'images' in record.getMessage()
