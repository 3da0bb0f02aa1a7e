"""Uploads in the gallery."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest
from playwright.sync_api import (
    Route,
    expect,
)

from ... import samples
from ...servers import Server
from .window import Window, Windows

pytestmark = pytest.mark.browser

EVIL = '<img src=x onerror=alert(1)>.txt'


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


def test_upload_with_an_unreadable_response_can_be_retried(
    window: Window, server: Server, pictures: list[Path]
) -> None:
    def cut_off_answer(route: Route) -> None:
        if route.request.method == 'POST':
            key = route.request.headers['idempotency-key']
            server.upload(pictures[0].read_bytes(), Idempotency_Key=key)
            route.fulfill(status=201, body='{"id": ')
        else:
            route.continue_()

    window.page.route('**/images', cut_off_answer)
    window.choose(pictures[0])
    expect(window.uploads).to_contain_text('The upload failed')
    expect(window.page.locator('#uploads-title')).to_have_text('1 not uploaded')
    expect(window.button('Cancel: photo 0.jpg')).to_have_count(0)
    window.page.unroute('**/images')
    window.button('Try again: photo 0.jpg').click()
    expect(window.uploads).to_contain_text('Uploaded')
    assert len(server.images()) == 1


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
