"""The modules of the gallery's script that need no server: collection and layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route

from asgilook.resources import gallery

pytestmark = pytest.mark.browser

ORIGIN = 'http://gallery.test'


class FakeList:
    """The list of a service, newest first, without a service."""

    def __init__(self) -> None:
        self.ids = [f'id-{number}' for number in range(250, 0, -1)]
        self.queries: list[str] = []
        self.failures = 0

    def answer(self, route: Route) -> None:
        """Answer a request of a page, or of a file of the gallery."""
        url = urlsplit(route.request.url)
        if url.path == '/images':
            self._answer_list(route, url.query)
        elif url.path == '/':
            route.fulfill(body='<!doctype html>', content_type='text/html')
        else:
            path = gallery.STATIC / url.path.removeprefix('/static/')
            route.fulfill(path=path, content_type=gallery.MEDIA_TYPES[path.suffix])

    def _answer_list(self, route: Route, query: str) -> None:
        self.queries.append(query)
        parameters = {name: value for name, (value,) in parse_qs(query).items()}
        assert parameters['order'] == 'newest'
        limit = int(parameters['limit'])
        after = parameters.get('after')
        if self.failures:
            self.failures -= 1
            route.fulfill(status=503, json={'detail': 'busy'})
        elif after is not None and after not in self.ids:
            route.fulfill(status=400, json={'detail': 'unknown'})
        else:
            start = 0 if after is None else self.ids.index(after) + 1
            page = self.ids[start : start + limit]
            more = len(self.ids) > start + limit
            images = [{'id': image_id, 'size': [4, 3]} for image_id in page]
            headers = {}
            if more:
                query = f'order=newest&limit={limit}&after={page[-1]}'
                headers['Link'] = f'</images?{query}>; rel="next"'
            route.fulfill(body=json.dumps(images), headers=headers)


@pytest.fixture
def service() -> FakeList:
    return FakeList()


@pytest.fixture
def page(browser: Browser, service: FakeList) -> Iterator[Page]:
    page = browser.new_page()
    page.route('**/*', service.answer)
    page.goto(ORIGIN)
    # The modules expect some elements of the page to exist.
    page.set_content((gallery.STATIC / gallery.PAGE).read_text().split('<body>')[1])
    page.evaluate(
        """async () => {
            const { Collection } = await import('/static/collection.js');
            window.collection = new Collection();
            window.problems = [];
            collection.addEventListener('failed', (event) =>
                problems.push(event.detail.message));
            await collection.refresh();
        }"""
    )
    yield page
    page.close()


def run(page: Page, script: str) -> list[str]:
    """Run a script, then return the ids of the collection."""
    ids: list[str] = page.evaluate(
        f'async () => {{ {script}; return collection.ids; }}'
    )
    return ids


def sections(page: Page) -> list[int]:
    lengths: list[int] = page.evaluate('collection.sections().map((ids) => ids.length)')
    return lengths


READ_ALL = 'while (collection.hasMore) await collection.readMore()'


def test_pages_follow_each_other(page: Page, service: FakeList) -> None:
    assert run(page, '') == service.ids[:100]
    assert run(page, 'await collection.readMore()') == service.ids[:200]
    assert run(page, READ_ALL) == service.ids
    assert service.queries == [
        'order=newest&limit=100',
        'order=newest&limit=100&after=id-151',
        'order=newest&limit=100&after=id-51',
    ]
    run(page, 'await collection.readMore()')
    assert len(service.queries) == 3
    assert sections(page) == [100, 100, 50]


def test_simultaneous_calls_read_one_page(page: Page, service: FakeList) -> None:
    run(page, 'await Promise.all([collection.readMore(), collection.readMore()])')
    assert len(service.queries) == 2
    run(page, 'await Promise.all([collection.refresh(), collection.refresh()])')
    assert len(service.queries) == 3


def test_changes_while_a_page_is_read(page: Page, service: FakeList) -> None:
    ids = run(
        page,
        """const reading = collection.refresh();
        await Promise.resolve();
        collection.add({ id: 'new', size: [4, 3] });
        collection.remove('id-249');
        await reading""",
    )
    assert ids == ['new', 'id-250', *service.ids[2:100]]
    ids = run(
        page,
        """const more = collection.readMore();
        await Promise.resolve();
        collection.remove('id-150');
        collection.remove('id-51'); // the last one of the page being read
        await more""",
    )
    assert ids[-2:] == ['id-53', 'id-52']
    assert 'id-150' not in ids
    assert run(page, READ_ALL)[-50:] == service.ids[-50:]


def test_next_page_after_a_deletion(page: Page, service: FakeList) -> None:
    service.ids.remove('id-151')
    ids = run(page, "collection.remove('id-151'); await collection.readMore()")
    assert ids == service.ids[:199]
    assert service.queries[-1].endswith('after=id-152')


def test_next_page_after_deletions_without_events(
    page: Page, service: FakeList
) -> None:
    del service.ids[97:100]
    assert run(page, 'await collection.readMore()') == service.ids[:197]
    assert page.evaluate('problems') == []


def test_refresh_keeps_the_images_that_are_needed(
    page: Page, service: FakeList
) -> None:
    run(page, f"{READ_ALL}; collection.lastNeeded = 'id-71'")
    service.ids[:0] = [f'new-{number}' for number in range(30)]
    del service.ids[40:45]
    requests = len(service.queries)
    assert run(page, 'await collection.refresh()') == [*service.ids[:204], 'id-71']
    assert len(service.queries) == requests + 1
    assert run(page, READ_ALL) == service.ids
    assert service.queries[-1].endswith('after=id-71')


def test_refresh_forgets_images_that_are_not_needed(
    page: Page, service: FakeList
) -> None:
    run(page, f"{READ_ALL}; collection.lastNeeded = 'id-240'")
    del service.ids[120]
    assert run(page, 'await collection.refresh()') == service.ids[:100]
    assert run(page, READ_ALL) == service.ids


def test_refresh_after_more_than_a_page_of_new_images(
    page: Page, service: FakeList
) -> None:
    run(page, f"{READ_ALL}; collection.lastNeeded = 'id-1'")
    service.ids[:0] = [f'new-{number}' for number in range(130)]
    assert run(page, 'await collection.refresh()') == service.ids[:100]
    assert run(page, READ_ALL) == service.ids


def test_refresh_of_a_list_that_has_become_empty(page: Page, service: FakeList) -> None:
    service.ids.clear()
    assert run(page, 'await collection.refresh()') == []
    assert page.evaluate('collection.hasMore') is False


def test_all_images_deleted_before_the_next_page(page: Page, service: FakeList) -> None:
    del service.ids[:100]
    script = 'for (const id of [...collection.ids]) collection.remove(id)'
    assert run(page, script) == []
    assert run(page, READ_ALL) == service.ids


def test_failed_page_is_read_again(page: Page, service: FakeList) -> None:
    service.failures = 1
    assert run(page, 'await collection.readMore()') == service.ids[:200]
    assert page.evaluate('problems') == ['busy']


def test_refresh_ends_the_pause_after_a_failure(page: Page, service: FakeList) -> None:
    service.failures = 3
    page.clock.install()
    page.evaluate('void collection.readMore()')
    page.wait_for_function('problems.length === 1')
    page.evaluate('void collection.refresh()')
    page.wait_for_function('problems.length === 2')
    page.clock.run_for(60_000)
    page.wait_for_function('problems.length === 3')
    page.clock.run_for(60_000)
    page.wait_for_function('collection.ids.length === 100 && collection.hasMore')


def test_response_of_an_upload_after_its_deletion(page: Page) -> None:
    image = "{ id: 'new', size: [4, 3] }"
    ids = run(page, f"collection.remove('new'); collection.addUploaded({image})")
    assert 'new' not in ids
    # The same id comes back if an upload is repeated with its key.
    assert run(page, f'collection.add({image})')[0] == 'new'


def test_changes_stay_in_their_section(page: Page) -> None:
    run(page, READ_ALL)
    run(page, "collection.remove('id-150')")  # the first of the second section
    assert sections(page) == [100, 99, 50]
    run(page, "collection.remove('id-250')")
    assert sections(page) == [99, 99, 50]
    run(
        page,
        """for (let number = 0; number < 102; number += 1) {
            collection.add({ id: `new-${number}`, size: [4, 3] });
        }""",
    )
    assert sections(page) == [101, 100, 99, 50]


def lay_out(page: Page, *arguments: Any) -> Any:
    return page.evaluate(
        """async (arguments) => {
            const { layOut } = await import('/static/layout.js');
            return layOut(...arguments);
        }""",
        arguments,
    )


@pytest.mark.parametrize('width', [280, 358, 1204, 1400])
def test_rows_fill_the_width(page: Page, width: int) -> None:
    shapes = [[1600, 1000], [800, 1200], [900, 900], [9000, 200], [20, 900]]
    section = [shapes[number * number % 5] for number in range(100)]
    layout = lay_out(page, [section, section], width, False)
    boxes = layout['boxes']
    assert len(boxes) == 200
    rows: dict[int, list[Any]] = {}
    for box in boxes:
        rows.setdefault(box['top'], []).append(box)
    tops = list(rows)
    assert tops == sorted(tops)
    gap = rows[0][1]['left'] - rows[0][0]['width']
    for row in rows.values():
        assert row[0]['left'] == 0
        assert row[-1]['left'] + row[-1]['width'] == width
        for box, following in pairwise(row):
            assert abs(following['left'] - box['left'] - box['width'] - gap) <= 1
        assert len({box['height'] for box in row}) == 1
    for (top, row), following in pairwise(
        [*rows.items(), (layout['height'] + gap, [])]
    ):
        assert top + row[0]['height'] + gap == following[0]
    heights = [row[0]['height'] for row in rows.values()]
    assert max(heights) < 2.5 * min(heights)


def test_last_row_is_not_stretched(page: Page) -> None:
    section = [[1600, 1000]] * 3
    for complete in (True, False):
        boxes = lay_out(page, [section], 1200, complete)['boxes']
        right = boxes[-1]['left'] + boxes[-1]['width']
        assert right < 950 if complete else right == 1200
    (box,) = lay_out(page, [[[1600, 1000]]], 1200, True)['boxes']
    assert box['width'] < 400


def test_empty_layout(page: Page) -> None:
    assert lay_out(page, [], 1200, True) == {'boxes': [], 'height': 0}
