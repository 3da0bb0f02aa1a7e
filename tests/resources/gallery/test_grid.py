"""The grid of the gallery: pictures, pages, and changes by others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Route,
    expect,
)

from ... import samples
from ...servers import HOST, RedisServer, Server, free_port, until
from .window import BEARER, TOKEN, Window, Windows, scroll_to_end, seed

pytestmark = pytest.mark.browser

NEW_ID = 'ffffffff-0000-4000-8000-000000000000'


def loaded_width(card: Locator) -> tuple[int, float]:
    """Return the width of the loaded file, and the width of its element."""
    image = card.locator('img.there')
    image.wait_for()
    width, place = image.evaluate(
        """async (image) => {
            const file = new Image();
            file.src = image.currentSrc;
            await file.decode();
            return [file.naturalWidth, image.clientWidth];
        }"""
    )
    return int(width), float(place)


@pytest.mark.parametrize('density', [1, 2])
@pytest.mark.parametrize('width', [390, 1280])
def test_browser_loads_the_smallest_sufficient_thumbnail(
    windows: Windows, server: Server, width: int, density: int
) -> None:
    image = server.upload(samples.photo(4000, 2500))
    window = windows(width, density=density)
    loaded, place = loaded_width(window.cards)
    widths = [int(re.split('[/x]', uri)[3]) for uri in image['thumbnails']]
    assert loaded in widths
    # The next larger one; if two are close, Chromium may choose the smaller.
    needed = place * density
    assert loaded == min(w for w in widths if w >= needed)
    assert loaded < 4000


def test_layout_is_stable_while_images_load(windows: Windows, server: Server) -> None:
    for number in range(12):
        server.upload(samples.photo(400 + 40 * number, 300, number))
    window = windows(reduced_motion='reduce')
    expect(window.page.locator('.card img.there')).to_have_count(12)
    heights = window.page.evaluate('shifts')
    assert heights < 0.05


def test_image_without_thumbnails(windows: Windows, server: Server) -> None:
    image = server.upload(samples.photo(100, 60))
    assert image['thumbnails'] == []
    window = windows()
    picture = window.cards.locator('img')
    assert picture.get_attribute('src') == image['image']
    assert picture.get_attribute('srcset') is None
    assert picture.get_attribute('width') == '100'
    assert str(picture.get_attribute('alt')).startswith(
        'Picture of 100 \N{MULTIPLICATION SIGN} 60 pixels'
    )
    assert loaded_width(window.cards)[0] == 100


def is_stored(server: Server, image_id: str) -> bool:
    return server.ask('HEAD', f'/images/{image_id}.jpeg').status == 200


@pytest.mark.parametrize('settings', [{'page_size': 7}])
def test_pages_are_read_as_the_end_comes_near(windows: Windows, server: Server) -> None:
    ids = seed(server, 150)
    window = windows(width=800, height=500)
    expect(window.page.locator('#count')).to_have_text(re.compile(r'^\d\d\+$'))
    assert len(window.list_requests) < 10
    assert window.list_requests[0] == '?order=newest&limit=100'
    seen = scroll_to_end(window)
    assert [seen[position] for position in sorted(seen)] == ids
    assert sorted(seen) == list(range(1, 151))
    expect(window.page.locator('#count')).to_have_text('150')
    expect(window.cards.last).to_have_attribute('aria-setsize', '150')


def test_long_list(windows: Windows, server: Server) -> None:
    seed(server, 1000)
    window = windows()
    expect(window.cards.first).to_be_visible()
    expect(window.page.locator('.card img.there').first).to_be_visible()
    assert len(window.list_requests) == 1
    expect(window.page.locator('#count')).to_have_text('100+')
    for _ in range(10):
        window.scroll(1)
        assert window.cards.count() < 150
    window.settle()
    assert 2 <= len(window.list_requests) <= 7

    # Changes elsewhere move nothing that is visible, and read nothing.
    requests = len(window.list_requests)
    find = """() => {
        const cards = [...document.querySelectorAll('.card')];
        const tops = cards.map((card) => card.getBoundingClientRect().top);
        const index = tops.findIndex((top) => top > 0);
        return [cards[index].dataset.id, tops[index]];
    }"""
    before = window.page.evaluate(find)
    count = int(window.page.inner_text('#count').strip('+'))
    for number in range(5):
        server.upload(samples.photo(300, 200, number))
    expect(window.page.locator('#count')).to_have_text(f'{count + 5}+')
    after = window.page.evaluate(find)
    assert after[0] == before[0]
    assert abs(after[1] - before[1]) <= 1
    assert len(window.list_requests) == requests
    window.page.keyboard.press('Home')
    until(lambda: window.page.evaluate('scrollY') == 0)
    newest = [image['id'] for image in server.get('/images?order=newest').json[:5]]
    expect(window.cards.first).to_have_attribute('data-id', newest[0])
    shown = window.page.evaluate(
        "[...document.querySelectorAll('.card')].slice(0, 5).map((c) => c.dataset.id)"
    )
    assert shown == newest


def test_next_page_does_not_scroll(windows: Windows, server: Server) -> None:
    seed(server, 500)
    window = windows()
    expect(window.page.locator('#count')).to_have_text('100+')
    held: list[Route] = []
    window.page.route('**/images?*', lambda route: held.append(route))
    window.page.evaluate('scrollTo(0, document.documentElement.scrollHeight)')
    expect(window.page.locator('#more')).to_be_in_viewport()
    window.page.wait_for_timeout(200)
    position = window.page.evaluate('scrollY')
    held[0].continue_()
    expect(window.page.locator('#count')).to_have_text('200+')
    window.page.wait_for_timeout(200)
    assert window.page.evaluate('scrollY') == position
    assert len(held) == 1


class Outage:
    """Answers requests of pictures with 503 until it is over."""

    def __init__(self, window: Window) -> None:
        self.is_over = False
        self._page = window.page
        self._requests = 0
        self._page.add_init_script(
            """window.failures = 0;
            addEventListener('error', ({ target }) => {
                failures += target instanceof HTMLImageElement ? 1 : 0;
            }, true);"""
        )
        self._page.route('**/*.{jpeg,webp}', self._answer)

    def _answer(self, route: Route) -> None:
        if self.is_over or route.request.resource_type != 'image':
            route.continue_()
        else:
            self._requests += 1
            route.fulfill(status=503, headers={'Retry-After': '1'}, body='')

    def wait_for_failures(self, count: int) -> None:
        """Wait until the browser has failed to load so many pictures."""
        until(lambda: self._page.evaluate('failures') == count)

    def count_requests(self) -> int:
        # Requests are answered in order.
        self._page.evaluate("fetch('/static/icon.svg').then((icon) => icon.text())")
        return self._requests


def test_image_deleted_without_an_event(windows: Windows, server: Server) -> None:
    ids = seed(server, 150, (300, 200))
    window = windows()
    expect(window.page.locator('#count')).to_have_text('100+')
    # The last image of the first page, where the next page would begin, and one of
    # the first page that has not been shown.
    for image_id in (ids[99], ids[90]):
        (server.storage / image_id).unlink()
    until(lambda: not is_stored(server, ids[90]))
    seen = scroll_to_end(window)
    expect(window.page.locator('#count')).to_have_text('148')
    assert ids[98] in seen.values()
    assert ids[-1] in seen.values()
    expect(window.page.locator(f'[data-id="{ids[90]}"]')).to_have_count(0)


def test_images_are_shown_as_webp(windows: Windows, server: Server) -> None:
    server.upload(samples.photo(1600, 1000))
    window = windows()
    picture = window.page.locator('.card img.there')
    assert picture.evaluate('image => image.currentSrc').endswith('.webp')
    window.page.locator('.card a').click()
    full = window.viewer.locator('#stage img')
    until(lambda: full.evaluate('image => image.complete && image.naturalWidth > 0'))


def test_jpeg_is_shown_if_webp_fails(windows: Windows, server: Server) -> None:
    server.upload(samples.photo(1600, 1000))
    window = windows()
    window.page.route('**/*.webp', lambda route: route.fulfill(status=503, body=''))
    window.page.reload()
    picture = window.page.locator('.card img.there')
    assert picture.evaluate('image => image.currentSrc').endswith('.jpeg')


@pytest.mark.parametrize(
    ('size', 'formats'), [((1600, 1000), ['webp', 'jpeg']), ((100, 60), ['jpeg'])]
)
def test_picture_is_loaded_again_after_an_outage(
    windows: Windows, server: Server, size: tuple[int, int], formats: list[str]
) -> None:
    server.upload(samples.photo(*size))
    window = windows()
    outage = Outage(window)
    window.page.reload()
    outage.wait_for_failures(len(formats))
    outage.is_over = True
    picture = window.page.locator('.card img.there')
    source = str(picture.evaluate('image => image.currentSrc'))
    assert source.endswith(formats[0])


def test_failed_picture_is_loaded_a_limited_number_of_times(
    windows: Windows, server: Server
) -> None:
    server.upload(samples.photo(100, 60))
    window = windows()
    outage = Outage(window)
    window.page.clock.install()
    window.page.reload()
    for tries in range(1, 9):
        outage.wait_for_failures(tries)
        window.page.clock.fast_forward(60_000)
    window.page.clock.fast_forward(600_000)
    assert outage.count_requests() == 8


def test_failed_picture_is_not_loaded_after_its_removal(
    windows: Windows, server: Server
) -> None:
    image = server.upload(samples.photo(100, 60))
    window = windows()
    outage = Outage(window)
    window.page.clock.install()
    window.page.reload()
    outage.wait_for_failures(1)
    window.page.evaluate(
        """async (id) => {
            const { collection } = await import('/static/collection.js');
            collection.remove(id);
        }""",
        image['id'],
    )
    expect(window.cards).to_have_count(0)
    window.page.clock.fast_forward(600_000)
    assert outage.count_requests() == 1


def test_images_are_shown_without_an_event_stream(
    browser: Browser, server: Server
) -> None:
    server.upload(samples.photo(300, 200))
    page = browser.new_page()
    page.route('**/events', lambda route: route.abort())
    page.goto(f'http://{HOST}:{server.port}/')
    expect(page.locator('.card img.there')).to_have_count(1)
    page.close()


def test_events_reach_windows_of_every_worker(
    browser: Browser, tmp_path: Path, pictures: list[Path]
) -> None:
    with (
        RedisServer(tmp_path) as redis,
        Server(
            tmp_path, '--workers', '2', redis_host=redis.url, api_token=TOKEN
        ) as server,
    ):
        windows = Windows(browser, server)
        for _ in range(4):
            windows()
        image = server.upload(pictures[0].read_bytes(), **BEARER)
        for window in windows.opened:
            expect(window.cards).to_have_count(1)
        server.ask('DELETE', image['image'], **BEARER)
        for window in windows.opened:
            expect(window.cards).to_have_count(0)
        windows.close()


def test_list_is_read_again_after_a_restart(
    browser: Browser, tmp_path: Path, pictures: list[Path]
) -> None:
    port = '--port', str(free_port())
    with Server(tmp_path, *port) as server:
        windows = Windows(browser, server)
        window = windows()
        server.upload(pictures[0].read_bytes())
        expect(window.cards).to_have_count(1)
        window.page.context.set_offline(True)
    with Server(tmp_path, *port) as server:
        server.upload(pictures[1].read_bytes())
        window.page.context.set_offline(False)
        expect(window.cards).to_have_count(2)
        expect(window.live).to_have_text('Live')
        window.errors = [text for text in window.errors if 'net::ERR_' not in text]
        windows.close()


def test_restart_reads_only_the_newest_page_again(
    browser: Browser, tmp_path: Path
) -> None:
    port = '--port', str(free_port())
    with Server(tmp_path, *port) as server:
        windows = Windows(browser, server)
        ids = seed(server, 400)
        window = windows()
        for _ in range(8):
            window.scroll(1)
        window.settle()
        requests = len(window.list_requests)
    storage = server.storage
    (storage / NEW_ID).write_bytes((storage / ids[0]).read_bytes())
    (storage / ids[1]).unlink()
    with Server(tmp_path, *port) as server:
        until(lambda: len(window.list_requests) > requests)
        expect(window.live).to_have_text('Live')
        window.page.wait_for_timeout(500)
        assert window.list_requests[requests:] == ['?order=newest&limit=100']
        assert window.page.evaluate('scrollY') > 0
        window.page.keyboard.press('Home')
        expect(window.cards.first).to_have_attribute('data-id', NEW_ID)
        expect(window.cards.nth(1)).to_have_attribute('data-id', ids[0])
        seen = scroll_to_end(window)
        assert list(seen.values()) == [NEW_ID, ids[0], *ids[2:]]
        window.errors = [text for text in window.errors if 'net::ERR_' not in text]
        windows.close()
