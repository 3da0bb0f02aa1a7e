"""The viewer of the gallery."""

from __future__ import annotations

import pytest
from playwright.sync_api import (
    expect,
)

from ... import samples
from ...servers import HOST, Server, until
from .window import BEARER, Window, Windows, protected, seed

pytestmark = pytest.mark.browser

WIDE = '1600 \N{MULTIPLICATION SIGN} 1000 pixels'
NARROW = '700 \N{MULTIPLICATION SIGN} 500 pixels'


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


@protected
def test_focus_stays_in_the_viewer_at_the_ends_of_the_list(
    window: Window, server: Server
) -> None:
    images = [server.upload(samples.photo(300, 200, n), **BEARER) for n in range(2)]
    older, newer = (str(image['image']) for image in images)
    expect(window.cards).to_have_count(2)
    window.page.locator('.card a').first.click()
    original = window.page.locator('#original')
    expect(original).to_have_attribute('href', newer)
    window.page.locator('#next').click()
    expect(original).to_have_attribute('href', older)
    expect(window.page.locator('#next')).to_be_disabled()
    expect(window.page.locator('#previous')).to_be_focused()
    window.page.keyboard.press('Enter')
    expect(original).to_have_attribute('href', newer)
    expect(window.page.locator('#previous')).to_be_disabled()
    expect(window.page.locator('#next')).to_be_focused()
    window.page.keyboard.press('ArrowRight')
    expect(original).to_have_attribute('href', older)
    expect(window.page.locator('#previous')).to_be_focused()
    server.ask('DELETE', newer, **BEARER)
    expect(window.page.locator('#close')).to_be_focused()
    window.page.keyboard.press('Enter')
    expect(window.viewer).to_have_count(0)
