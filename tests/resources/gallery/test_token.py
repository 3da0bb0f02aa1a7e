"""The token, which the gallery asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import (
    Request,
    expect,
)

from ... import samples
from ...servers import Server
from .window import BEARER, TOKEN, Window, Windows, protected

pytestmark = pytest.mark.browser


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
@pytest.mark.parametrize(
    'value',
    ['the\N{EN DASH}right one', 'the right \N{LATIN SMALL LETTER O WITH ACUTE}ne'],
)
def test_token_with_other_characters_than_ascii_is_rejected(
    window: Window, pictures: list[Path], value: str
) -> None:
    window.choose(pictures[0])
    expect(window.uploads).to_contain_text('Waiting for the token')
    window.enter_token(value)
    window.announced('A token has only ASCII characters.')
    assert window.page.evaluate('sessionStorage.length') == 0
    window.enter_token(TOKEN)
    expect(window.cards).to_have_count(1)


@protected
def test_stored_token_that_cannot_be_sent(window: Window, pictures: list[Path]) -> None:
    window.page.evaluate("sessionStorage.setItem('asgilook-token', 'a\u2013b')")
    window.page.reload()
    window.choose(pictures[0])
    expect(window.uploads).to_contain_text('The upload failed')
    window.button('Token set').click()
    window.enter_token(TOKEN)
    window.button('Try again: photo 0.jpg').click()
    expect(window.cards).to_have_count(1)


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
