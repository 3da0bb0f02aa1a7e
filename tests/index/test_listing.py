from __future__ import annotations

import pytest

from asgilook.errors import InvalidRequest
from asgilook.index.listing import Listing
from asgilook.models import Image


def image(number: int) -> Image:
    return Image(str(number), (number, 8), 100, number)


def ids(listing: Listing, *, newest: bool = False) -> list[str]:
    page = listing.page(9999, None, newest=newest)
    assert not page.more
    return [image.image_id for image in page.images]


def test_insert_and_discard_again() -> None:
    listing = Listing()
    empty = listing.state
    for _ in range(2):
        listing.insert(image(3))
    state = listing.state
    listing.discard('3')
    assert listing.state == empty
    listing.discard('3')
    listing.insert(image(3))
    assert listing.state == state
    assert ids(listing) == ['3']


@pytest.mark.parametrize('count', [3, 300])
def test_update(count: int) -> None:
    """Few changes and many have the same result."""
    expected, listing = Listing(), Listing()
    for number in range(count):
        listing.insert(image(number))
    for number in range(1, count + 5):
        expected.insert(image(number))
    listing.update({'0', 'none'}, [image(number) for number in range(1, count + 5)])
    assert ids(listing) == ids(expected) == [str(n) for n in range(1, count + 5)]
    assert ids(listing, newest=True) == ids(listing)[::-1]
    assert listing.state == expected.state


@pytest.mark.parametrize('newest', [False, True])
def test_page_after_a_missing_image(newest: bool) -> None:
    with pytest.raises(InvalidRequest):
        Listing().page(9, '1', newest=newest)
