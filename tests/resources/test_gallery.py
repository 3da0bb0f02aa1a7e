"""The gallery in a real browser: Chromium, controlled by Playwright."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    Request,
    Route,
    expect,
)

from .. import samples
from ..servers import HOST, RedisServer, Server, free_port, until

pytestmark = pytest.mark.browser

TOKEN = 'the right one'
BEARER = {'Authorization': f'Bearer {TOKEN}'}

# Runs before the scripts of the page, and records violations and layout shifts.
WATCH = """
    window.violations = [];
    addEventListener('securitypolicyviolation', (event) =>
        violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    window.shifts = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
            shifts += entry.hadRecentInput ? 0 : entry.value;
        }
    }).observe({ type: 'layout-shift', buffered: true });
"""

WIDE = '1600 \N{MULTIPLICATION SIGN} 1000 pixels'
NARROW = '700 \N{MULTIPLICATION SIGN} 500 pixels'

NEW_ID = 'ffffffff-0000-4000-8000-000000000000'

EVIL = '<img src=x onerror=alert(1)>.txt'


class Window:
    """A page of the gallery, and the errors in its console."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on('console', self._on_console)
        page.on('request', self._on_request)
        page.on('pageerror', lambda error: self.errors.append(str(error)))
        page.add_init_script(WATCH)
        page.goto(url)
        expect(self.live).to_have_text('Live')

    def _on_console(self, message: Any) -> None:
        # The browser logs every 4xx and 5xx response.
        if message.type in ('error', 'warning') and 'status of' not in message.text:
            self.errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        if request.method == 'GET':
            self.requests.append(request.url)

    @property
    def live(self) -> Locator:
        return self.page.locator('#live-text')

    @property
    def cards(self) -> Locator:
        return self.page.locator('.card')

    @property
    def uploads(self) -> Locator:
        return self.page.locator('#uploads-list li')

    @property
    def viewer(self) -> Locator:
        return self.page.get_by_role('dialog').filter(has=self.page.locator('#stage'))

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role('button', name=name, exact=True)

    def announced(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator('.toast').filter(has_text=text).first).to_be_attached()

    def choose(self, *files: Path) -> None:
        self.page.locator('#files').set_input_files(files)

    def enter_token(self, value: str) -> None:
        self.page.get_by_label('Token of the service').fill(value)
        self.button('Use').click()

    def shown(self) -> list[str]:
        """Return the URLs of the images in the grid, in order."""
        links = self.page.locator('.card a').all()
        return [str(link.get_attribute('href')) for link in links]

    @property
    def list_requests(self) -> list[str]:
        """The query of each request of the list so far."""
        self.page.wait_for_timeout(20)  # events are delivered during calls only
        return [
            url.partition('/images')[2]
            for url in self.requests
            if re.search(r'/images(\?|$)', url)
        ]

    def scroll(self, screens: float) -> None:
        """Scroll and wait until the cards are drawn."""
        self.page.evaluate(
            """(screens) => {
                scrollBy(0, screens * innerHeight);
                return new Promise((done) =>
                    requestAnimationFrame(() => requestAnimationFrame(done)));
            }""",
            screens,
        )

    def settle(self) -> None:
        """Wait until enough pages have been read for the current position."""
        until(
            lambda: self.page.evaluate(
                """document.querySelector('#end').getBoundingClientRect().top
                    > innerHeight + 1500"""
            )
        )

    def check(self) -> None:
        """Check that there were no errors and no violations of the policy."""
        assert self.errors == []
        assert self.page.evaluate('violations') == []


class Windows:
    """Opens browser windows, each with its own session."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser = browser
        self._url = f'http://{HOST}:{server.port}/'
        self.opened: list[Window] = []

    def __call__(
        self, width: int = 1280, height: int = 860, density: float = 1, **options: Any
    ) -> Window:
        context = self._browser.new_context(
            viewport={'width': width, 'height': height},
            device_scale_factor=density,
            permissions=['clipboard-read', 'clipboard-write'],
            **options,
        )
        context.set_default_timeout(60_000)
        self.opened.append(Window(context.new_page(), self._url))
        return self.opened[-1]

    def close(self) -> None:
        """Check and close all windows."""
        for window in self.opened:
            window.check()
            window.page.context.close()


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def server(tmp_path: Path, settings: dict[str, Any]) -> Iterator[Server]:
    with Server(tmp_path, **settings) as server:
        yield server


@pytest.fixture
def windows(browser: Browser, server: Server) -> Iterator[Windows]:
    windows = Windows(browser, server)
    yield windows
    windows.close()


@pytest.fixture
def window(windows: Windows) -> Window:
    return windows()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Return three image files: landscape, portrait, square."""
    paths = []
    for number, size in enumerate([(1600, 1000), (800, 1200), (900, 900)]):
        path = tmp_path / f'photo {number}.jpg'
        path.write_bytes(samples.photo(*size, number))
        paths.append(path)
    return paths


protected = pytest.mark.parametrize('settings', [{'api_token': TOKEN}], ids=['token'])


# -- Uploads ----------------------------------------------------------------------


def test_uploads_appear_in_every_window(
    window: Window, windows: Windows, server: Server, pictures: list[Path]
) -> None:
    other = windows()
    expect(window.page.locator('#note')).to_contain_text('No pictures yet')
    window.choose(*pictures)
    expect(window.cards).to_have_count(3)
    window.announced('uploaded')
    expect(window.page.locator('#count')).to_have_text('3')
    expect(other.cards).to_have_count(3)
    assert set(other.shown()) == {image['image'] for image in server.images()}
    expect(window.page.locator('#uploads')).to_be_hidden()
    expect(window.page.locator('.card img.there')).to_have_count(3)


def drop(window: Window, *files: Path) -> None:
    """Drop files on the page, as a file manager does."""
    window.page.evaluate(
        """(files) => {
            const data = new DataTransfer();
            for (const [name, text] of files) {
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                data.items.add(new File([bytes], name));
            }
            const curtain = document.querySelector('#curtain');
            window.curtain = false;
            for (const type of ['dragenter', 'dragover', 'drop']) {
                const init = { dataTransfer: data, bubbles: true, cancelable: true };
                document.querySelector('main').dispatchEvent(new DragEvent(type, init));
                window.curtain ||= !curtain.hidden;
            }
        }""",
        [[file.name, b64encode(file.read_bytes()).decode()] for file in files],
    )


def test_dropped_files_are_uploaded(window: Window, pictures: list[Path]) -> None:
    drop(window, *pictures)
    expect(window.cards).to_have_count(3)
    assert window.page.evaluate('curtain')
    expect(window.page.locator('#curtain')).to_be_hidden()


def test_each_upload_shows_its_progress(window: Window, tmp_path: Path) -> None:
    paths = []
    for number in range(4):
        path = tmp_path / f'large {number}.jpg'
        path.write_bytes(samples.photo(1200, 800, number) + bytes(1_000_000))
        paths.append(path)
    network = window.page.context.new_cdp_session(window.page)
    network.send('Network.enable')
    network.send(
        'Network.emulateNetworkConditions',
        {
            'offline': False,
            'latency': 0,
            'downloadThroughput': -1,
            'uploadThroughput': 1_000_000,
        },
    )
    window.page.evaluate(
        """() => {
            window.seen = {};
            const look = () => {
                for (const bar of document.querySelectorAll('progress')) {
                    (seen[bar.ariaLabel] ??= []).push(bar.value);
                }
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    window.choose(*paths)
    expect(window.page.locator('#uploads-title')).to_have_text('Uploading 1 of 4')
    expect(window.page.locator('[data-state=sending]')).to_have_count(3)
    expect(window.uploads.last).to_contain_text('Waiting')
    expect(window.cards).to_have_count(4)
    seen = window.page.evaluate('seen')
    assert sorted(seen) == [path.name for path in paths]
    for values in seen.values():
        assert values == sorted(values)
        assert len({value for value in values if 0 < value < 1}) >= 3


def test_rejected_file_shows_the_reason(
    window: Window, server: Server, tmp_path: Path, pictures: list[Path]
) -> None:
    evil = tmp_path / EVIL
    evil.write_text('no image')
    empty = tmp_path / 'empty.png'
    empty.write_bytes(b'')
    window.choose(evil, empty, pictures[0])
    expect(window.cards).to_have_count(1)
    title = window.page.locator('#uploads-title')
    expect(title).to_have_text('1 uploaded, 2 not uploaded')
    item = window.uploads.filter(has_text=EVIL)
    expect(item).to_contain_text('JPEG, PNG, GIF, WebP, AVIF, BMP')
    window.announced(re.compile(re.escape(EVIL) + ': .+JPEG'))
    expect(window.uploads.filter(has_text='empty.png')).to_contain_text('empty')
    # Trying again can't help.
    expect(window.page.get_by_role('button', name='Try again')).to_have_count(0)
    expect(window.uploads).to_have_count(2)
    expect(title).to_have_text('1 uploaded, 2 not uploaded')
    window.choose(pictures[1])
    expect(window.cards).to_have_count(2)
    expect(title).to_have_text('1 uploaded, 2 not uploaded')
    window.button('Clear').click()
    expect(window.page.locator('#uploads')).to_be_hidden()


@pytest.mark.parametrize('settings', [{'max_upload_size': 50_000}])
def test_too_large_file_shows_the_limit(window: Window, pictures: list[Path]) -> None:
    window.choose(pictures[0])
    expect(window.uploads).to_contain_text('the limit is 50000 bytes')


def test_upload_is_retried_while_the_service_is_busy(
    window: Window, pictures: list[Path]
) -> None:
    answers = [503, 503]

    def answer(route: Route) -> None:
        if route.request.method == 'POST' and answers:
            headers = {'Retry-After': '1', 'Content-Type': 'application/problem+json'}
            route.fulfill(status=answers.pop(), headers=headers, body='{}')
        else:
            route.continue_()

    window.page.route('**/images', answer)
    window.choose(pictures[0])
    expect(window.uploads).to_contain_text('The service is busy. Trying again in 1 s')
    expect(window.cards).to_have_count(1)
    assert answers == []


def test_lost_response_is_retried_without_a_second_image(
    window: Window, server: Server, pictures: list[Path]
) -> None:
    keys = []

    def lose_first_answer(route: Route) -> None:
        if route.request.method == 'POST':
            keys.append(route.request.headers['idempotency-key'])
            if len(keys) == 1:
                server.upload(pictures[0].read_bytes(), Idempotency_Key=keys[0])
                route.abort('connectionreset')
                return
        route.continue_()

    window.page.route('**/images', lose_first_answer)
    window.choose(pictures[0])
    expect(window.uploads.first).to_contain_text('be reached. Trying again')
    expect(window.uploads.first).to_contain_text('Uploaded')
    expect(window.cards).to_have_count(1)
    assert len(server.images()) == 1
    assert keys[0] == keys[1]
    assert re.fullmatch('"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"', keys[0])
    window.choose(pictures[0])
    expect(window.cards).to_have_count(2)
    assert len(set(keys)) == 2
    window.errors = [text for text in window.errors if 'net::ERR_' not in text]


def test_heic_file_shows_what_to_do(window: Window, tmp_path: Path) -> None:
    path = tmp_path / 'photo.heic'
    path.write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0heicmif1' + bytes(1000))
    # Dropped: the dialog of the file input does not offer it.
    drop(window, path)
    expect(window.uploads).to_contain_text(re.compile('HEIC.*JPEG'))


def test_file_dialog_offers_the_accepted_formats(window: Window) -> None:
    accepted = str(window.page.locator('#files').get_attribute('accept')).split(',')
    formats = ['jpeg', 'png', 'gif', 'webp', 'avif', 'bmp', 'tiff']
    assert accepted[:7] == [f'image/{name}' for name in formats]
    assert not any('hei' in name or '*' in name for name in accepted)


def test_cancelled_upload_can_be_retried(window: Window, pictures: list[Path]) -> None:
    window.page.route('**/images', lambda route: None)
    window.choose(pictures[0])
    window.button('Cancel: photo 0.jpg').click()
    expect(window.uploads).to_contain_text('Cancelled')
    window.page.unroute('**/images')
    window.button('Try again: photo 0.jpg').click()
    expect(window.cards).to_have_count(1)


def test_unreachable_service_is_reported(
    windows: Windows, server: Server, pictures: list[Path]
) -> None:
    window = windows()
    server.kill()
    expect(window.live).to_have_text('Reconnecting…')
    window.choose(pictures[0])
    expect(window.uploads).to_contain_text('be reached. Trying again in 2 s')
    window.button('Cancel: photo 0.jpg').click()
    expect(window.uploads).to_contain_text('Cancelled')
    # Chromium itself reports what it could not load.
    window.errors = [text for text in window.errors if 'net::ERR_' not in text]


# -- The grid ---------------------------------------------------------------------


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


def listed(server: Server) -> list[str]:
    """Return the ids of all pages of the list."""
    ids: list[str] = []
    path = '/images'
    while path:
        page = server.get(path)
        ids += [image['id'] for image in page.json]
        path = page.headers.get('Link', '')[1:].partition('>')[0]
    return ids


def seed(server: Server, count: int, size: tuple[int, int] = (90, 60)) -> list[str]:
    """Put images into the storage folder; return their ids, newest first."""
    body = samples.photo(*size)
    ids = [f'0a0b0c0d-0000-4000-8000-{number:012x}' for number in range(count)]
    for number, image_id in enumerate(ids):
        path = server.storage / image_id
        path.write_bytes(body)
        os.utime(path, (10**9 + number, 10**9 + number))
    until(lambda: listed(server) == ids)
    return ids[::-1]


def scroll_to_end(window: Window) -> dict[int, str]:
    """Scroll through the whole list; return the ids of the cards by their position."""
    seen: dict[int, str] = {}

    def is_complete() -> bool:
        cards = window.page.evaluate(
            """[...document.querySelectorAll('.card')].map((card) =>
                [Number(card.ariaPosInSet), card.dataset.id])"""
        )
        seen.update(cards)
        window.scroll(0.8)
        return bool(
            window.page.evaluate(
                """scrollY + innerHeight >= document.documentElement.scrollHeight - 1
                    && document.querySelector('#more').hidden"""
            )
        )

    until(is_complete)
    return seen


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


# -- The viewer -------------------------------------------------------------------


def test_viewer_and_copy_buttons(windows: Windows, server: Server) -> None:
    older = server.upload(samples.photo(700, 500))
    image = server.upload(samples.photo(1600, 1000, 1))
    window = windows()
    window.page.locator('.card a').first.click()
    expect(window.viewer.get_by_role('heading')).to_have_text(WIDE)
    full = window.viewer.locator('#stage img')
    until(lambda: full.evaluate('image => image.complete && image.naturalWidth > 0'))
    expect(window.button('Delete')).to_have_count(0)
    clipboard = 'navigator.clipboard.readText()'
    origin = f'http://{HOST}:{server.port}'
    window.button('Copy link').click()
    window.announced('Link copied.')
    assert window.page.evaluate(clipboard) == origin + image['image']
    window.button('Copy HTML').click()
    window.announced('HTML copied.')
    html = window.page.evaluate(clipboard)
    found = window.page.evaluate(
        """(html) => {
            const page = new DOMParser().parseFromString(html, 'text/html');
            const image = page.querySelector('img');
            return [image.src, image.srcset, image.width, image.height];
        }""",
        html,
    )
    src, srcset, width, height = found
    assert (width, height) == (1600, 1000)
    assert src == f'{origin}{image["thumbnails"][0]}'
    candidates = [part.split() for part in srcset.split(',')]
    assert [uri.removeprefix(origin) for uri, _ in candidates] == [
        *reversed(image['thumbnails']),
        image['image'],
    ]
    assert [width for _, width in candidates] == [
        '100w',
        '200w',
        '400w',
        '800w',
        '1600w',
    ][-len(candidates) :]
    window.page.keyboard.press('ArrowRight')
    expect(window.viewer.get_by_role('heading')).to_have_text(NARROW)
    expect(window.page.locator('#next')).to_be_disabled()
    original = window.viewer.get_by_role('link', name='Original')
    assert original.get_attribute('href') == older['image']


@pytest.mark.parametrize('settings', [{'page_size': 5}])
def test_viewer_steps_through_the_whole_list(windows: Windows, server: Server) -> None:
    ids = seed(server, 120)
    window = windows(width=800, height=300)
    window.page.locator('.card a').first.click()
    for image_id in ids[1:]:
        expect(window.page.locator('#next')).to_be_enabled()
        window.page.keyboard.press('ArrowRight')
        link = f'/images/{image_id}.jpeg'
        expect(window.page.locator('#original')).to_have_attribute('href', link)
    expect(window.page.locator('#next')).to_be_disabled()
    window.page.keyboard.press('Escape')
    last = window.page.locator(f'[data-id="{ids[-1]}"] a')
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport()


def test_copy_without_the_clipboard_api(windows: Windows, server: Server) -> None:
    image = server.upload(samples.photo(300, 200))
    window = windows()
    window.page.evaluate('delete Navigator.prototype.clipboard')
    window.page.locator('.card a').click()
    window.button('Copy link').click()
    window.announced('Link copied.')
    other = windows()
    other.page.bring_to_front()
    pasted = other.page.evaluate('navigator.clipboard.readText()')
    assert pasted.endswith(image['image'])


# -- The token --------------------------------------------------------------------


@protected
def test_upload_and_delete_with_a_token(
    window: Window, windows: Windows, server: Server, pictures: list[Path]
) -> None:
    other = windows()
    why = window.page.locator('#token-why')
    window.choose(*pictures[:2])
    expect(why).to_contain_text('Uploading requires')
    window.enter_token('a wrong one')
    expect(why).to_have_text('This token is wrong. Enter another one.')
    window.enter_token(TOKEN)
    expect(window.cards).to_have_count(2)
    expect(other.cards).to_have_count(2)

    other.page.locator('.card a').first.click()
    expect(other.page.locator('#delete')).to_be_hidden()
    _, second = window.shown()
    window.page.locator('.card a').first.click()
    window.button('Delete').click()
    expect(window.cards).to_have_count(2)
    window.button('Delete for good?').click()
    window.announced('The picture has been deleted.')
    expect(window.cards).to_have_count(1)
    # The other window, which shows the same image, goes on to the next one.
    expect(other.cards).to_have_count(1)
    expect(other.page.locator('#original')).to_have_attribute('href', second)
    assert [image['image'] for image in server.images()] == [second]
    assert window.page.evaluate('JSON.stringify(localStorage)') == '{}'
    window.page.reload()
    window.page.locator('.card a').first.click()
    expect(window.button('Delete')).to_be_visible()
    window.page.keyboard.press('Escape')
    window.button('Token set').click()
    window.button('Forget').click()
    expect(window.button('Token')).to_be_visible()


@protected
def test_many_files_without_a_token_ask_once(
    window: Window, server: Server, tmp_path: Path
) -> None:
    files = [tmp_path / f'{number}.jpg' for number in range(33)]
    for number, file in enumerate(files):
        file.write_bytes(samples.photo(200 + number, 150))
    posts: list[Request] = []
    window.page.on('request', lambda r: posts.append(r) if r.method == 'POST' else None)
    window.choose(*files)
    title = window.page.locator('#uploads-title')
    expect(title).to_have_text('33 waiting for the token')
    window.button('Cancel').click()
    expect(window.page.locator('.toast')).to_have_count(0)
    assert 1 <= len(posts) <= 3

    window.button('Clear').click()
    expect(window.page.locator('#uploads')).to_be_hidden()
    window.choose(*files[:5])
    expect(title).to_have_text('5 waiting for the token')
    window.button('Cancel').click()
    window.choose(*files[5:])
    expect(title).to_have_text('33 waiting for the token')
    window.button('Cancel').click()
    window.button('Enter token').click()
    window.enter_token(TOKEN)
    expect(title).to_have_text('33 uploaded')
    window.announced('33 pictures uploaded.')
    assert len(server.images()) == 33


@protected
def test_deletion_with_a_wrong_token_asks_for_another(
    window: Window, server: Server, pictures: list[Path]
) -> None:
    server.upload(pictures[0].read_bytes(), **BEARER)
    window.button('Token').click()
    window.enter_token('')
    window.announced('Enter the token first.')
    window.enter_token('a wrong one')
    window.page.locator('.card a').click()
    window.button('Delete').click()
    window.button('Delete for good?').click()
    expect(window.page.locator('#token-why')).to_contain_text('Enter another token.')
    window.enter_token(TOKEN)
    window.button('Delete').click()
    window.button('Delete for good?').click()
    expect(window.cards).to_have_count(0)
    expect(window.viewer).to_have_count(0)


def test_deletion_needs_a_token_in_the_settings(
    window: Window, server: Server, pictures: list[Path]
) -> None:
    server.upload(pictures[0].read_bytes())
    window.button('Token').click()
    window.enter_token('any')
    window.page.locator('.card a').click()
    window.button('Delete').click()
    window.button('Delete for good?').click()
    window.announced(re.compile('ASGI_LOOK_API_TOKEN'))
    expect(window.cards).to_have_count(1)


# -- Keyboard, window sizes, color schemes ----------------------------------------


@protected
def test_keyboard_alone_is_enough(
    window: Window, server: Server, pictures: list[Path]
) -> None:
    page, press = window.page, window.page.keyboard.press
    # Subscribe early: Chromium may handle the key before a later subscription.
    page.on('filechooser', lambda chooser: None)
    for path in pictures:
        server.upload(path.read_bytes(), **BEARER)
    expect(window.cards).to_have_count(3)

    def focused() -> str:
        return str(
            page.evaluate(
                """() => {
                    const element = document.activeElement;
                    const label = element.id === 'files' && element.nextElementSibling;
                    const { outlineStyle } = getComputedStyle(label || element);
                    const name = element.id || element.href;
                    return outlineStyle === 'none' ? 'focus is not visible' : name;
                }"""
            )
        )

    press('Tab')
    assert focused().endswith('#grid')
    press('Tab')
    assert focused() == 'token-open'
    press('Enter')
    page.keyboard.type(TOKEN)
    press('Enter')
    expect(window.button('Token set')).to_be_focused()
    press('Tab')
    assert focused() == 'files'
    with page.expect_file_chooser() as chooser:
        press('Enter')
    chooser.value.set_files(pictures[0])
    expect(window.cards).to_have_count(4)
    expect(window.page.locator('#uploads')).to_be_hidden()
    press('Tab')
    first = page.locator('.card a').first
    expect(first).to_be_focused()
    assert focused() != 'focus is not visible'
    press('Enter')
    expect(window.viewer).to_be_visible()
    press('ArrowRight')
    press('ArrowRight')
    press('ArrowLeft')
    expect(page.locator('#original')).to_have_attribute('href', window.shown()[1])
    second = window.shown()[1]
    while focused() != 'delete':
        press('Tab')
    press('Enter')
    press('Enter')
    expect(window.cards).to_have_count(3)
    assert second not in window.shown()
    press('Escape')
    expect(window.viewer).to_have_count(0)
    assert page.evaluate('document.activeElement.closest(".card") !== null')


@pytest.mark.parametrize(('width', 'height'), [(390, 844), (1280, 860)])
def test_tab_key_reaches_every_card_of_a_long_list(
    windows: Windows, server: Server, width: int, height: int
) -> None:
    ids = seed(server, 130)
    window = windows(width, height)
    window.page.locator('.card a').first.focus()
    for image_id in ids[1:]:
        # The next page of the list may take its time.
        expect(window.page.locator(f'[data-id="{image_id}"]')).to_be_attached()
        window.page.keyboard.press('Tab')
        focused = window.page.evaluate(
            """() => {
                const { bottom, top } = document.activeElement.getBoundingClientRect();
                const { id } = document.activeElement.closest('.card').dataset;
                return [id, top < innerHeight && bottom > 0];
            }"""
        )
        assert focused == [image_id, True]
    # A focused card keeps the focus when it is scrolled out of view.
    window.page.mouse.wheel(0, -20_000)
    until(lambda: window.page.evaluate('scrollY') == 0)
    window.scroll(0)
    expect(window.page.locator(f'[data-id="{ids[-1]}"] a')).to_be_focused()
    assert window.cards.count() < 129


def test_focus_moves_faster_than_frames(windows: Windows, server: Server) -> None:
    ids = seed(server, 100)
    window = windows(390, 844)
    links = window.page.evaluate(
        """() => {
            const grid = document.querySelector('#grid');
            const seen = [];
            for (let card = grid.firstElementChild; card; card = card.nextSibling) {
                card.querySelector('a').focus();
                seen.push(card.dataset.id);
            }
            for (let card = grid.lastElementChild; card; card = card.previousSibling) {
                card.querySelector('a').focus();
                seen.push(card.dataset.id);
            }
            return seen;
        }"""
    )
    assert links == ids + ids[::-1]


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize(('width', 'height'), [(320, 640), (390, 844), (1280, 860)])
def test_window_sizes_and_color_schemes(
    windows: Windows, server: Server, width: int, height: int, scheme: str
) -> None:
    for number, size in enumerate([(640, 400), (400, 640), (2000, 200), (40, 30)]):
        server.upload(samples.photo(*size, number))
    window = windows(width, height, color_scheme=scheme, reduced_motion='reduce')
    expect(window.page.locator('.card img.there')).to_have_count(4)
    root = window.page.evaluate('document.documentElement.scrollWidth')
    assert root <= width
    screen = Image.open(BytesIO(window.page.screenshot())).convert('L')
    corner = screen.crop((2, height - 4, 3, height - 3)).tobytes()
    assert (corner[0] > 200) == (scheme == 'light')
    for link in window.page.locator('.card a').all():
        box = link.bounding_box()
        assert box is not None
        assert box['width'] >= 44
        assert box['height'] >= 44
    window.page.locator('.card a').first.click()
    for button in window.viewer.get_by_role('button').all():
        box = button.bounding_box()
        assert box is not None
        assert 0 <= box['x'] <= box['x'] + box['width'] <= width
        assert 0 <= box['y'] <= box['y'] + box['height'] <= height


@pytest.fixture(scope='session')
def axe() -> str:
    """Return the script of axe-core, which checks the accessibility of a page."""
    package = pytest.importorskip('axe_playwright_python')
    return (Path(package.__file__).parent / 'axe.min.js').read_text(encoding='utf-8')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('settings', [{'api_token': TOKEN}], ids=['token'])
def test_axe_finds_no_violations(
    windows: Windows, server: Server, pictures: list[Path], scheme: str, axe: str
) -> None:
    window = windows(color_scheme=scheme, reduced_motion='reduce')

    def violations() -> list[str]:
        window.page.evaluate(axe)
        found = window.page.evaluate('axe.run({ resultTypes: ["violations"] })')
        return [
            f'{each["id"]}: {node["html"]}'
            for each in found['violations']
            for node in each['nodes']
        ]

    assert violations() == []
    window.choose(*pictures)
    expect(window.page.locator('#token-dialog')).to_be_visible()
    assert violations() == []
    window.button('Cancel').click()
    assert violations() == []
    window.button('Enter token').click()
    pictures[0].with_name('none.png').write_bytes(b'no image')
    window.enter_token(TOKEN)
    expect(window.cards).to_have_count(3)
    window.choose(pictures[0].with_name('none.png'))
    expect(window.page.locator('#uploads-title')).to_contain_text('1 not uploaded')
    assert violations() == []
    window.page.locator('.card a').first.click()
    expect(window.viewer).to_be_visible()
    assert violations() == []
