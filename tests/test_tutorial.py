"""The service as its tutorial tests it: one client, a Redis in process, nothing else.

An edition of it has birdisle and a pool, the next one fakeredis and a factory.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeredis.aioredis
import falcon
import falcon.testing
import PIL.Image
import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config

CACHE = 'X-ASGILook-Cache'


def with_birdisle(config: Config) -> None:
    birdisle = pytest.importorskip('birdisle.aioredis')
    config.create_redis_pool = birdisle.create_redis_pool
    config.redis_host = None


def with_fakeredis(config: Config) -> None:
    def from_url(*args: Any, **kwargs: Any) -> fakeredis.aioredis.FakeRedis:
        return fakeredis.aioredis.FakeRedis(server=fakeredis.FakeServer())

    config.redis_from_url = from_url
    config.redis_host = 'redis://localhost'


@pytest.fixture(params=[with_birdisle, with_fakeredis])
def client(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    predictable_uuid: Callable[[], uuid.UUID],
) -> TestClient:
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path))
    config = Config()
    request.param(config)
    config.redis_timeout = 10
    config.uuid_generator = predictable_uuid
    return falcon.testing.TestClient(create_app(config))


def draw(width: int, height: int, color: str) -> bytes:
    picture = io.BytesIO()
    PIL.Image.new('RGB', (width, height), color).save(picture, 'PNG')
    return picture.getvalue()


def test_empty_list_is_cached(client: TestClient) -> None:
    first, second = (client.simulate_get('/images') for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.json == second.json == []
    assert [first.headers[CACHE], second.headers[CACHE]] == ['Miss', 'Hit']


def test_upload_shows_in_list(client: TestClient) -> None:
    posted = client.simulate_post('/images', body=draw(462, 300, 'teal'))
    image_id = '00000000-0000-0000-0000-000000000001'
    assert posted.status == falcon.HTTP_201
    assert posted.headers['Location'] == f'/images/{image_id}.jpeg'
    assert posted.json == {
        'id': image_id,
        'image': f'/images/{image_id}.jpeg',
        'modified': posted.json['modified'],
        'size': [462, 300],
        'thumbnails': [
            f'/thumbnails/{image_id}/231x150.jpeg',
            f'/thumbnails/{image_id}/115x75.jpeg',
        ],
    }
    first, second = (client.simulate_get('/images') for _ in range(2))
    assert first.json == second.json == [posted.json]
    assert [first.headers[CACHE], second.headers[CACHE]] == ['Miss', 'Hit']


def test_upload_forgets_cached_list(client: TestClient) -> None:
    for number in range(3):
        assert len(client.simulate_get('/images').json) == number
        client.simulate_post('/images', body=draw(8, 8, 'navy'))
    assert [image['size'] for image in client.simulate_get('/images').json] == [
        [8, 8]
    ] * 3


def test_image_is_a_jpeg(client: TestClient) -> None:
    uri = client.simulate_post('/images', body=draw(200, 100, 'tomato')).json['image']
    first, second = (client.simulate_get(uri) for _ in range(2))
    assert first.headers['Content-Type'] == falcon.MEDIA_JPEG
    assert first.content == second.content
    assert [first.headers[CACHE], second.headers[CACHE]] == ['Miss', 'Hit']
    with PIL.Image.open(io.BytesIO(second.content)) as picture:
        assert (picture.format, picture.size) == ('JPEG', (200, 100))
        assert picture.getpixel((100, 50)) == pytest.approx((255, 99, 71), abs=3)


def test_thumbnail_is_cached(client: TestClient) -> None:
    image = client.simulate_post('/images', body=draw(640, 360, 'gold')).json
    assert len(image['thumbnails']) == 2
    for uri in image['thumbnails']:
        first, second = (client.simulate_get(uri) for _ in range(2))
        assert [first.headers[CACHE], second.headers[CACHE]] == ['Miss', 'Hit']
        assert first.content == second.content
        with PIL.Image.open(io.BytesIO(second.content)) as picture:
            assert uri.endswith('/{}x{}.jpeg'.format(*picture.size))


@pytest.mark.parametrize(
    'uri',
    [
        '/images/1b2d8ff0-9a3c-4f0e-8a4f-000000000000.jpeg',
        '/thumbnails/1b2d8ff0-9a3c-4f0e-8a4f-000000000000/64x64.jpeg',
    ],
)
def test_missing_image(client: TestClient, uri: str) -> None:
    assert client.simulate_get(uri).status == falcon.HTTP_404


@pytest.mark.parametrize('size', ['640x360', '319x180', '80x45', '1x1'])
def test_thumbnail_of_no_listed_size(client: TestClient, size: str) -> None:
    image = client.simulate_post('/images', body=draw(640, 360, 'plum')).json
    uri = f'/thumbnails/{image["id"]}/{size}.jpeg'
    assert uri not in image['thumbnails']
    assert client.simulate_get(uri).status == falcon.HTTP_404


def test_factory_is_called_by_address_alone(tmp_path: Path) -> None:
    """There may be a whole server in what it returns: once, on however many loops."""
    urls: list[str] = []

    def from_url(url: str) -> fakeredis.aioredis.FakeRedis:
        urls.append(url)
        return fakeredis.aioredis.FakeRedis(server=fakeredis.FakeServer())

    config = Config({})
    config.redis_from_url = from_url
    config.redis_host = 'redis://cache.example'
    config.storage_path = tmp_path  # type: ignore[assignment]
    config.redis_timeout = 10
    client = falcon.testing.TestClient(create_app(config))
    found = [client.simulate_get('/images').headers[CACHE] for _ in range(3)]
    assert found == ['Miss', 'Hit', 'Hit']
    assert urls == ['redis://cache.example'] * 2  # for the cache, and for the events
