"""The files of the gallery, as they are served and as they are written."""

from __future__ import annotations

import re

import pytest
from falcon.testing import TestClient

from asgilook.resources import gallery

STATIC_FILES = sorted(path.name for path in gallery.STATIC.iterdir())


@pytest.mark.parametrize('name', STATIC_FILES)
def test_static_file(client: TestClient, name: str) -> None:
    path = '/' if name == gallery.PAGE else f'/static/{name}'
    file = gallery.STATIC / name
    result = client.simulate_get(path)
    assert result.status_code == 200
    assert result.content == file.read_bytes()
    assert result.headers['content-type'] == gallery.MEDIA_TYPES[file.suffix]
    assert result.headers['cache-control'] == 'no-cache'
    assert result.headers['x-content-type-options'] == 'nosniff'
    assert result.headers['content-security-policy'].startswith("default-src 'none'; ")
    assert 'unsafe' not in result.headers['content-security-policy']
    etag = result.headers['etag']
    again = client.simulate_get(path, headers={'If-None-Match': etag})
    assert again.status_code == 304
    head = client.simulate_head(path)
    assert head.headers['content-length'] == str(len(result.content))
    assert head.headers['etag'] == etag


def test_page_preloads_every_module() -> None:
    page = (gallery.STATIC / gallery.PAGE).read_text()
    loaded = re.findall(r'(?:modulepreload" href|script src)="/static/(.+?)"', page)
    assert sorted(loaded) == [name for name in STATIC_FILES if name.endswith('.js')]


def test_page_has_no_inline_code_and_no_foreign_hosts() -> None:
    page = (gallery.STATIC / gallery.PAGE).read_text()
    assert not re.search(r'\son\w+=|\sstyle=|<style|<script>|javascript:', page)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    for path in gallery.STATIC.glob('*.js'):
        assert not re.search(
            r'innerHTML|outerHTML|insertAdjacent|\beval|document\.write',
            path.read_text(),
        )
