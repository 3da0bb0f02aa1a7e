"""The contract of every index: of a folder, in SQLite, in PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from asgilook.errors import ImageNotFound, InvalidRequest
from asgilook.index.base import Index
from asgilook.index.database import DatabaseIndex
from asgilook.index.folder import FolderIndex
from asgilook.models import Image
from asgilook.storage.folder import FolderStorage

from .. import samples


def image_id(number: int) -> str:
    return str(uuid.UUID(int=number))


class Images:
    """A set of images with its storage, and a function that makes an index of it."""

    def __init__(self, make: Callable[[], Index], folder: Path) -> None:
        self.make = make
        self._storage = FolderStorage(str(folder))
        self._storage.start()

    async def add(self, index: Index, *numbers: int, at: int = 0) -> list[Image]:
        """Add images whose width, and by default time, is their number."""
        return [await self._add(index, number, at or number) for number in numbers]

    async def _add(self, index: Index, number: int, modified_ns: int) -> Image:
        new = self._storage.create()
        new.file.write(samples.encode(_PLAIN.resize((number, 8)), 'JPEG'))
        length, modified_ns = new.publish(image_id(number), modified_ns)
        new.close()
        image = Image(image_id(number), (number, 8), length, modified_ns)
        await index.add(image)
        return image

    async def remove(self, index: Index, number: int) -> None:
        await index.remove(image_id(number))
        self._storage.remove(image_id(number))


_PLAIN = samples.scene(8, 8)


async def numbers(
    index: Index, limit: int = 99, after: int | None = None, **order: bool
) -> list[int]:
    """Return the numbers of a page's images."""
    page = await index.page(limit, None if after is None else image_id(after), **order)
    found = [uuid.UUID(image.image_id).int for image in page.images]
    assert found == [image.size[0] for image in page.images]
    return found


async def state(index: Index) -> str:
    return (await index.page(99)).state


@pytest.fixture
def make_memory(tmp_path: Path) -> Callable[[], Index]:
    return lambda: FolderIndex(str(tmp_path / 'images'))


@pytest.fixture
def make_sqlite(sqlite: str) -> Callable[[], Index]:
    return lambda: DatabaseIndex(sqlite)


@pytest.fixture
def make_postgresql(postgresql: str) -> Callable[[], Index]:
    return lambda: DatabaseIndex(postgresql)


@pytest.fixture(params=['memory', 'sqlite', 'postgresql'])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Images:
    make: Any = request.getfixturevalue(f'make_{request.param}')
    return Images(make, tmp_path / 'images')


async def started(images: Images) -> AsyncIterator[Index]:
    """Return an index as another process would have it."""
    index = images.make()
    await index.start()
    yield index
    await index.stop()


index = pytest.fixture(started, name='index')
writer = pytest.fixture(started, name='writer')
reader = pytest.fixture(started, name='reader')


@pytest.fixture
async def indexes(images: Images) -> AsyncIterator[list[Index]]:
    """Return four indexes, started at the same time."""
    indexes = [images.make() for _ in range(4)]
    await asyncio.gather(*(index.start() for index in indexes))
    yield indexes
    for index in indexes:
        await index.stop()


async def test_empty(images: Images, index: Index) -> None:
    page = await index.page(9)
    assert (page.images, page.more) == ([], False)
    assert page == await index.page(9)
    assert await index.get(image_id(1)) is None
    assert await index.is_usable()
    with pytest.raises(ImageNotFound):
        await index.remove(image_id(1))
    with pytest.raises(InvalidRequest):
        await index.page(9, image_id(1))


async def test_addition_is_seen_by_all_processes(
    images: Images, writer: Index, reader: Index
) -> None:
    for number in (3, 4, 5):
        (image,) = await images.add(writer, number)
        for index in (reader, writer):
            assert await index.get(image.image_id) == image
            assert await index.is_current(image)
            assert await numbers(index) == list(range(3, number + 1))


async def test_removal_is_seen_by_all_processes(
    images: Images, writer: Index, reader: Index
) -> None:
    first, second = await images.add(writer, 3, 4)
    for index in (writer, reader):
        assert await numbers(index) == [3, 4]
    await images.remove(writer, 3)
    for index in (reader, writer):
        assert await index.get(first.image_id) is None
        assert not await index.is_current(first)
        assert await index.is_current(second)
        assert await numbers(index) == [4]
        with pytest.raises(ImageNotFound):
            await index.remove(first.image_id)
        with pytest.raises(InvalidRequest):
            await index.page(9, first.image_id)


async def test_other_image_with_same_id_is_not_current(
    images: Images, index: Index
) -> None:
    (image,) = await images.add(index, 3)
    for other in (
        Image(image.image_id, image.size, image.length + 1, image.modified_ns),
        Image(image.image_id, image.size, image.length, image.modified_ns + 1),
    ):
        assert not await index.is_current(other)


async def test_order_is_by_time_then_id(images: Images, index: Index) -> None:
    await images.add(index, 5, 3, 9)
    await images.add(index, 7, 8, 6, at=4)
    assert await numbers(index) == [3, 6, 7, 8, 5, 9]
    assert await numbers(index, 2, after=6) == [7, 8]


async def test_order_is_exact(images: Images, index: Index) -> None:
    now = 1_790_000_000_000_000_000
    for number in (9, 8, 7):
        await images.add(index, number, at=now - number)
    assert await numbers(index) == [9, 8, 7]
    image = await index.get(image_id(7))
    assert image
    assert image.modified_ns == now - 7


async def test_pages(images: Images, index: Index) -> None:
    await images.add(index, 1, 2, 3, 4, 5)
    assert await numbers(index, 2) == [1, 2]
    assert await numbers(index, 2, after=2) == [3, 4]
    assert await numbers(index, 2, after=4) == [5]
    assert await numbers(index, 2, after=5) == []
    more = [(await index.page(limit)).more for limit in (4, 5, 6)]
    assert more == [True, False, False]
    assert not (await index.page(2, image_id(3))).more


async def test_newest_first(images: Images, index: Index) -> None:
    assert (await index.page(9, newest=True)).images == []
    await images.add(index, 5, 3, 9)
    await images.add(index, 7, 8, 6, at=4)
    assert await numbers(index, newest=True) == [9, 5, 8, 7, 6, 3]
    assert await numbers(index, newest=False) == [3, 6, 7, 8, 5, 9]
    assert await numbers(index, 2, after=8, newest=True) == [7, 6]
    await images.remove(index, 9)
    await images.add(index, 4, at=4)
    assert await numbers(index, newest=True) == [5, 8, 7, 6, 4, 3]
    with pytest.raises(InvalidRequest):
        await index.page(9, image_id(9), newest=True)


async def test_pages_of_newest_first(images: Images, index: Index) -> None:
    await images.add(index, 1, 2, 3, 4, 5)
    for after, found in ((None, [5, 4]), (4, [3, 2]), (2, [1]), (1, [])):
        assert await numbers(index, 2, after, newest=True) == found
    more = [(await index.page(n, newest=True)).more for n in (4, 5, 6)]
    assert more == [True, False, False]
    assert (await index.page(1, image_id(3), newest=True)).more
    assert not (await index.page(2, image_id(3), newest=True)).more


async def test_newest_first_is_seen_by_all_processes(
    images: Images, writer: Index, reader: Index
) -> None:
    for number in (3, 4, 5):
        await images.add(writer, number)
        for index in (reader, writer):
            found = await numbers(index, newest=True)
            assert found == list(range(number, 2, -1))
    await images.remove(writer, 4)
    assert await numbers(reader, newest=True) == [5, 3]


async def test_version_changes_with_the_list(
    images: Images, writer: Index, reader: Index
) -> None:
    """An index has a version always or never; then it is the state of each page."""
    versions = [await reader.version()]
    for number in (3, 4, 5):
        await images.add(writer, number)
        versions.append(await reader.version())
        assert await writer.version() == versions[-1]
        for newest in (False, True):
            page = await reader.page(1, newest=newest)
            assert versions[-1] in (None, page.state)
    assert len(set(versions)) == 4 or versions == [None] * 4
    await images.remove(writer, 5)
    assert await reader.version() == versions[2]


async def test_count(images: Images, writer: Index, reader: Index) -> None:
    assert await reader.count() == 0
    await images.add(writer, 3, 4, 5)
    assert await reader.count() == 3
    await images.remove(writer, 4)
    assert await reader.count() == await writer.count() == 2


async def test_state_follows_the_images(
    images: Images, writer: Index, reader: Index
) -> None:
    states = [await state(reader)]
    for number in (3, 4, 5):
        await images.add(writer, number)
        states.append(await state(reader))
        assert await state(writer) == states[-1]
    assert len(set(states)) == 4
    await images.remove(writer, 5)
    assert await state(writer) == await state(reader) == states[2]


async def test_restart_keeps_images(images: Images, index: Index) -> None:
    await images.add(index, 1, 2)
    await index.stop()
    other = images.make()
    for _ in range(2):
        await other.start()
        assert await numbers(other) == [1, 2]
        assert await other.get(image_id(1))
        await other.stop()
    await index.start()
    await images.add(index, 3)
    assert await numbers(index) == [1, 2, 3]


async def test_adding_an_image_twice(images: Images, index: Index) -> None:
    (image,) = await images.add(index, 3)
    await index.add(image)
    assert await numbers(index) == [3]


async def test_concurrent_changes(images: Images, indexes: list[Index]) -> None:
    async def add(number: int) -> None:
        index = indexes[number % len(indexes)]
        await images.add(index, number)
        assert number in await numbers(index)

    await asyncio.gather(*map(add, range(1, 61)))
    for index in indexes:
        assert await numbers(index) == list(range(1, 61))

    async def remove(number: int) -> None:
        await images.remove(indexes[number % len(indexes)], number)

    await asyncio.gather(*map(remove, range(1, 60)))
    for index in indexes:
        assert await numbers(index) == [60]


async def test_invalid_id_names_no_image(images: Images, index: Index) -> None:
    """It does not affect concurrent look-ups."""
    await images.add(index, 1)
    found, none, usable = await asyncio.gather(
        index.get(image_id(1)), index.get('x'), index.is_usable()
    )
    assert found is not None
    assert (none, usable) == (None, True)
    with pytest.raises(InvalidRequest):
        await index.page(9, 'x')


async def test_concurrent_removals(images: Images, indexes: list[Index]) -> None:
    """Exactly one of them succeeds."""
    await images.add(indexes[0], 3)
    removes = [images.remove(index, 3) for index in indexes]
    ends = await asyncio.gather(*removes, return_exceptions=True)
    assert [type(end) for end in ends].count(ImageNotFound) == 3
    assert ends.count(None) == 1
