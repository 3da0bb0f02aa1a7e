"""Keyboard, window sizes, color schemes, and axe."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import (
    expect,
)

from ... import samples
from ...servers import Server, until
from .window import BEARER, TOKEN, Window, Windows, protected, seed

pytestmark = pytest.mark.browser


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
