"""Windows of a browser that show the gallery, and the service behind them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    Request,
    expect,
)

from ... import samples
from ...servers import HOST, Server, until

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

protected = pytest.mark.parametrize('settings', [{'api_token': TOKEN}], ids=['token'])


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
