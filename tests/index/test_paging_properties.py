"""Pages of a list that changes between them, compared with a sorted list."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import hypothesis
import pytest
from hypothesis import strategies as st

from asgilook.errors import InvalidRequest
from asgilook.index.base import Index
from asgilook.index.database import DatabaseIndex
from asgilook.index.listing import Listing
from asgilook.models import Image, Page


def image(number: int, modified_ns: int) -> Image:
    return Image(str(uuid.UUID(int=number)), (number + 1, 8), 100, modified_ns)


# Some images have the same time: the list has them in order of their ids.
images = st.builds(image, st.integers(0, 20), st.integers(1, 4))
image_lists = st.lists(images, max_size=12)


class Model:
    """The list as it has to be."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}

    def page(self, limit: int, after: str | None, *, newest: bool) -> list[Image]:
        """Return the images of a page, and the first one of the next page."""
        found = sorted(
            self.images.values(), key=lambda image: image.order, reverse=newest
        )
        start = 0 if after is None else found.index(self.images[after]) + 1
        return found[start : start + limit + 1]

    def check(self, page: Page, expected: list[Image], limit: int) -> None:
        assert list(page.images) == expected[:limit]
        assert page.more == (len(expected) > limit)


@dataclass
class Changes:
    """What happens to a list before each page that a client asks for."""

    added: list[Image]
    removed: list[str]


changes = st.builds(
    Changes, image_lists, st.lists(images.map(lambda image: image.image_id), max_size=6)
)


@hypothesis.given(image_lists, changes, image_lists)
@hypothesis.example([], Changes([image(n, 1) for n in range(150)], []), [])
@hypothesis.example(
    [image(n, 1) for n in range(150)],
    Changes([image(n, 2) for n in range(99, 200)], [image(3, 1).image_id]),
    [image(3, 9)],
)
def test_listing(before: list[Image], change: Changes, after: list[Image]) -> None:
    """Any changes have the same result and state as the sorted list."""
    listing, model = Listing(), Model()
    for added in before:
        listing.insert(added)
    listing.update(change.removed, change.added)
    for added in after:
        listing.insert(added)
    model.images.update({image.image_id: image for image in before})
    for image_id in change.removed:
        model.images.pop(image_id, None)
    for added in change.added + after:
        model.images[added.image_id] = added
    assert dict(listing.images) == model.images
    for newest in (False, True):
        page = listing.page(999, None, newest=newest)
        model.check(page, model.page(999, None, newest=newest), 999)
    other = Listing()
    other.update([], list(model.images.values()))
    assert other.state == listing.state


class Walk:
    """A client that follows the pages of a list to its end, from the start again if
    the image that it continues after was removed.
    """

    def __init__(self, limit: int, *, newest: bool) -> None:
        self.limit = limit
        self.newest = newest
        self.model = Model()
        self.known: set[str] = set()
        self.restart()

    def restart(self) -> None:
        self.after: str | None = None
        self.seen: list[Image] = []
        self.kept = set(self.model.images.values())

    async def change(self, index: Index, changes: Changes) -> None:
        """Change the list and the model; no id is ever used again."""
        for image_id in changes.removed:
            if image_id in self.model.images:
                await index.remove(image_id)
                self.kept.discard(self.model.images.pop(image_id))
        for added in changes.added:
            if added.image_id not in self.known:
                await index.add(added)
                self.known.add(added.image_id)
                self.model.images[added.image_id] = added

    async def follow(self, index: Index) -> bool:
        """Read the next page; return whether there are more."""
        after, newest = self.after, self.newest
        if after is not None and after not in self.model.images:
            with pytest.raises(InvalidRequest):
                await index.page(self.limit, after, newest=newest)
            self.restart()
            return True
        page = await index.page(self.limit, after, newest=newest)
        expected = self.model.page(self.limit, after, newest=newest)
        self.model.check(page, expected, self.limit)
        self.seen += page.images
        if page.images:
            self.after = page.images[-1].image_id
        return page.more


@pytest.fixture(scope='module')
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f'sqlite://{tmp_path_factory.mktemp("index")}/index.db'


@hypothesis.given(
    st.integers(1, 4), st.booleans(), st.lists(changes, min_size=1, max_size=6)
)
@hypothesis.settings(max_examples=20)
def test_walk(url: str, limit: int, newest: bool, steps: list[Changes]) -> None:
    """What exists all the time is seen, in order, and once."""

    async def scenario(index: Index) -> None:
        for old in (await index.page(999)).images:
            await index.remove(old.image_id)
        walk = Walk(limit, newest=newest)
        await walk.change(index, steps[0])
        walk.restart()
        pending = steps[1:]
        while await walk.follow(index):
            if pending:
                await walk.change(index, pending.pop(0))
        assert walk.kept <= set(walk.seen)
        orders = [image.order for image in walk.seen]
        assert orders == sorted(set(orders), reverse=newest)

    async def main() -> None:
        index = DatabaseIndex(url)
        await index.start()
        try:
            await scenario(index)
        finally:
            await index.stop()

    asyncio.run(main())
