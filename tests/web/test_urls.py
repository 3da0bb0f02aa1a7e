from __future__ import annotations

import itertools
import re

import pytest
from falcon.testing import Result, TestClient

from asgilook.web.urls import nearest_url

from ..conftest import problem

ID = 'a0b1c2d3-e4f5-4678-9abc-def012345678'
IMAGE = f'/images/{ID}.jpeg'
THUMBNAIL = f'/thumbnails/{ID}/320x180.jpeg'
WEBP = f'/thumbnails/{ID}/320x180.webp'

NEAR = {
    '/images/': '/images',
    '//images': '/images',
    '/Images': '/images',
    '//': '/',
    '/events/': '/events',
    '/OpenAPI.json': '/openapi.json',
    '/healthz//live': '/healthz/live',
    '/healthz/ready/': '/healthz/ready',
    '/METRICS': '/metrics',
    '/image': '/images',
    '/openapi': '/openapi.json',
    '/healthz': '/healthz/live',
    f'/images/{ID}': IMAGE,
    f'/images/{ID}/': IMAGE,
    f'/images/{ID}.jpg': IMAGE,
    f'/images/{ID}.JPG': IMAGE,
    f'/images/{ID}.jpe': IMAGE,
    f'/images/{ID.upper()}.JPEG': IMAGE,
    f'/IMAGES//{ID}.jpeg/': IMAGE,
    f'/images/{ID.replace("-", "")}': IMAGE,
    f'/images/{{{ID}}}.jpeg': IMAGE,
    f'/thumbnails/{ID}/320x180': THUMBNAIL,
    f'/thumbnails/{ID}/320x180.jpg': THUMBNAIL,
    f'/thumbnails/{ID}/320X180.JPEG': THUMBNAIL,
    f'/thumbnails/{ID}//0320x00180.jpeg': THUMBNAIL,
    f'/thumbnails/{ID.replace("-", "")}/320x180.jpeg/': THUMBNAIL,
    f'/Thumbnails/{{{ID.upper()}}}/320x180.WebP': WEBP,
    f'/thumbnails/{ID}/320x180.webp/': WEBP,
}

FAR = [
    '/nothing',
    '/gallery',
    '/static/',
    '/upload',
    '/image/1',
    '/images/1',
    '/images/1.jpeg',
    f'/images/{ID}.webp',
    f'/images/{ID}.png',
    f'/images/{ID}.jpeg.jpeg',
    f'/images/{ID}.jpeg?x=<script>',
    f'/images/{ID}\n',
    f'/images/ {ID}',
    f'/images/{ID[:-1]}',
    f'/images/{ID}0',
    f'/images/{ID[:-1]}\uff10.jpeg',
    f'/images/<b>{ID}</b>',
    f'/images/../images/{ID}.jpeg',
    f'/thumbnails/{ID}',
    f'/thumbnails/{ID}/320.jpeg',
    f'/thumbnails/{ID}/0x180.jpeg',
    f'/thumbnails/{ID}/-320x180.jpeg',
    f'/thumbnails/{ID}/320x180x2.jpeg',
    f'/thumbnails/{ID}/320x180.png',
    f'/thumbnails/{ID}/123456x1.jpeg',
    f'/thumbnails/{ID}/{"0" * 5000}320x180.jpeg',
    '/' * 5000 + 'images',
    '/\u0130mages',
]


@pytest.mark.parametrize(('path', 'url'), NEAR.items())
def test_nearest_url(path: str, url: str) -> None:
    assert nearest_url(path) == url
    assert nearest_url(url) == url


@pytest.mark.parametrize('path', FAR)
def test_no_nearest_url(path: str) -> None:
    assert nearest_url(path) is None


def test_nearest_url_has_no_other_text_of_the_path() -> None:
    parts = ['/images/', ID, '.jpg', '\r\n', '<b>', '%0a', '{', '}', '"', '..']
    allowed = re.compile(r'/(images/[0-9a-f-]{36}\.jpeg)?|/images')
    for some in itertools.product(parts, repeat=4):
        url = nearest_url(''.join(some))
        assert url is None or allowed.fullmatch(url)


def quoted(path: str) -> str:
    return path.replace('{', '%7B').replace('}', '%7D')


@pytest.mark.parametrize(('path', 'url'), NEAR.items())
def test_near_miss_gets_the_canonical_url(
    client: TestClient, path: str, url: str
) -> None:
    detail = f'Not found; did you mean {url}?'
    for method in ('GET', 'POST', 'DELETE', 'PUT', 'OPTIONS'):
        result = client.simulate_request(method, quoted(path))
        assert problem(result, 404) == detail
        assert 'x-asgilook-cache' not in result.headers
    head = client.simulate_head(quoted(path))
    assert (head.status_code, head.content) == (404, b'')
    assert head.headers['content-length'] == result.headers['content-length']


@pytest.mark.parametrize('url', sorted(set(NEAR.values()) - {'/events'}))
def test_canonical_url_is_routed(client: TestClient, url: str) -> None:
    result: Result = client.simulate_options(url)
    assert result.status_code == 200
    assert 'GET' in result.headers['allow']


@pytest.mark.parametrize(
    'path',
    [
        '/nothing',
        '/gallery',
        '/images/1',
        f'/images/{ID}.webp',
        f'/images/{ID}%0d%0aX',
        f'/images/{ID}<script>',
    ],
)
def test_other_path_gets_no_suggestion(client: TestClient, path: str) -> None:
    expected = 'Nothing has this URL; /openapi.json lists all paths.'
    assert problem(client.simulate_get(path), 404) == expected


def test_escaped_path_gets_the_canonical_url(client: TestClient) -> None:
    result = client.simulate_get('/%69mages')
    assert problem(result, 404) == 'Not found; did you mean /images?'
