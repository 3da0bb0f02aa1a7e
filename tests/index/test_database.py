from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from asgilook.errors import DatabaseUnavailable, ImageExists, StorageUnavailable
from asgilook.index.attempts import Work
from asgilook.index.connection import Connector
from asgilook.index.database import DatabaseIndex
from asgilook.models import Image

from ..databases import Database, running


def make_image(number: int = 1) -> Image:
    """Make an image; older images have smaller numbers."""
    modified_ns = 1_700_000_000_000_000_000 + number
    return Image(str(uuid.UUID(int=number)), (512, 256), 2**33 + number, modified_ns)


@pytest.fixture
async def index(db: Database) -> AsyncIterator[DatabaseIndex]:
    """Return an index that is started, in a database of either kind."""
    async with running(db.url) as index:
        yield index


async def test_image_is_stored_exactly(index: DatabaseIndex, db: Database) -> None:
    image = make_image()
    await index.add(image)
    assert await index.get(image.image_id) == image
    assert await index.is_current(image)
    other = dataclasses.replace(image, modified_ns=image.modified_ns + 1)
    assert not await index.is_current(other)
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


async def test_state_depends_only_on_the_page(index: DatabaseIndex) -> None:
    for number in (1, 2, 3):
        await index.add(make_image(number))
    page = await index.page(1)
    await index.remove(make_image(2).image_id)
    assert await index.page(1) == page


async def test_state_depends_on_the_order(index: DatabaseIndex) -> None:
    for number in (1, 2):
        await index.add(make_image(number))
    pages = [await index.page(9, newest=newest) for newest in (False, True, False)]
    assert pages[0].state != pages[1].state
    assert pages[0] == pages[2]


async def test_is_usable_changes_nothing(index: DatabaseIndex) -> None:
    image = make_image(0)  # the nil UUID
    await index.add(image)
    assert await index.is_usable()
    assert (await index.page(9)).images == [image]


async def test_existing_id_is_rejected(index: DatabaseIndex) -> None:
    image = make_image()
    other = dataclasses.replace(image, size=(1, 1))
    await index.add(image)
    with pytest.raises(ImageExists):
        await index.add(other)
    assert await index.get(image.image_id) == image
    await index.add(image)
    assert (await index.page(9)).images == [image]


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[Work[object]]:
    """Return the list of all queries from now on."""
    queries, read = [], Connector.read

    async def recorded(connector: Connector, work: Work[object]) -> object:
        queries.append(work)
        return await read(connector, work)

    monkeypatch.setattr(Connector, 'read', recorded)
    return queries


async def test_concurrent_lookups_share_a_query(
    index: DatabaseIndex, queries: list[Work[object]]
) -> None:
    image = make_image()
    await index.add(image)
    queries.clear()
    lookups = [index.is_current(image) for _ in range(50)]
    assert await asyncio.gather(*lookups) == [True] * 50
    assert len(queries) == 1


async def test_missing_table(
    index: DatabaseIndex, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that rejects statements is not replaced by memory."""
    image = make_image()
    await index.add(image)
    db.execute('DROP TABLE images')
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
    (record,) = caplog.records
    assert 'failed' in record.getMessage()
    assert 'images' in record.getMessage()


async def test_deleted_image_is_not_served_during_an_outage(
    index: DatabaseIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a look-up found it while it was being deleted."""
    image = make_image()
    await index.add(image)
    write = Connector.write

    async def write_after_lookup(connector: Connector, work: Work[Any]) -> Any:
        assert await index.get(image.image_id) == image
        return await write(connector, work)

    async def fail(connector: Connector, work: Work[Any]) -> None:
        raise DatabaseUnavailable('unreachable')

    monkeypatch.setattr(Connector, 'write', write_after_lookup)
    await index.remove(image.image_id)
    monkeypatch.setattr(Connector, 'read', fail)
    with pytest.raises(DatabaseUnavailable):
        await index.get(image.image_id)


async def test_state_shows_whether_more_follow(index: DatabaseIndex) -> None:
    await index.add(make_image(1))
    last = await index.page(1)
    await index.add(make_image(2))
    first = await index.page(1)
    assert first.images == last.images
    assert first.state != last.state
