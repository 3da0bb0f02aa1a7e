from __future__ import annotations

import asyncio
import os
import shutil
import threading
from typing import Any, BinaryIO

import pytest
from falcon.testing import ASGIConductor, Result, TestClient
from PIL import ImageChops, ImageStat

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.imaging import transform
from asgilook.storage.folder import FolderStorage

from . import samples
from .conftest import Json, RedisServer, files, no_redis, place, problem

UNKNOWN = '00000000-0000-4000-8000-000000000000'
TOKEN = {'Authorization': 'Bearer s3cret'}


class Renders:
    """Stands for `transform.thumbnail`: counts, and waits while `gate` is closed."""

    def __init__(self) -> None:
        self.count = 0
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self._thumbnail = transform.thumbnail

    def __call__(self, *args: Any, **kwargs: Any) -> bytes:
        self.count += 1
        self.started.set()
        self.gate.wait(10)
        return self._thumbnail(*args, **kwargs)

    def close(self) -> None:
        """Let renders begin, and not end."""
        self.gate.clear()
        self.started.clear()

    async def wait(self) -> None:
        """Wait until a render has begun."""
        assert await asyncio.to_thread(self.started.wait, 10)


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> Renders:
    """Return the renders of the service."""
    renders = Renders()
    monkeypatch.setattr(transform, 'thumbnail', renders)
    return renders


@pytest.mark.parametrize(
    ('size', 'thumbnails'),
    [
        ((128, 128), ['64x64']),
        ((127, 400), []),
        ((400, 127), []),
        ((129, 128), ['64x64']),
        ((515, 259), ['257x129', '128x64']),
        ((64, 64), []),
        ((256, 1024), ['128x512', '64x256']),
    ],
)
def test_thumbnails_are_floored_halves(
    config: Config, client: TestClient, size: tuple[int, int], thumbnails: list[str]
) -> None:
    place(config, samples.photo(*size))
    (image,) = client.simulate_get('/images').json
    prefix = f'/thumbnails/{image["id"]}/'
    assert image['thumbnails'] == [f'{prefix}{name}.jpeg' for name in thumbnails]
    for uri in image['thumbnails']:
        result = client.simulate_get(uri)
        thumbnail = samples.decode(result.content)
        assert uri == '{}{}x{}.jpeg'.format(prefix, *thumbnail.size)


def test_thumbnails_show_the_picture(
    client: TestClient, photo: bytes, image: Json
) -> None:
    full = samples.decode(photo)
    for uri in image['thumbnails']:
        thumbnail = samples.decode(client.simulate_get(uri).content)
        expected = full.reduce(full.width // thumbnail.width)
        difference = ImageStat.Stat(ImageChops.difference(thumbnail, expected))
        assert max(difference.mean) < 10


@pytest.mark.parametrize(('least', 'count'), [(1, 8), (64, 2), (128, 1), (129, 0)])
def test_thumbnails_down_to_min_thumb_size(
    config: Config, image: Json, least: int, count: int
) -> None:
    config.min_thumb_size = least
    client = TestClient(create_app(config))
    (listed,) = client.simulate_get('/images').json
    assert len(listed['thumbnails']) == count
    for uri in {*listed['thumbnails'], *image['thumbnails']}:
        status = 200 if uri in listed['thumbnails'] else 404
        assert client.simulate_get(uri).status_code == status


def test_thumbnail_headers(client: TestClient, image: Json) -> None:
    result = client.simulate_get(image['thumbnails'][0])
    assert result.headers['content-type'] == 'image/jpeg'
    assert result.headers['content-length'] == str(len(result.content))
    assert result.headers['last-modified'] == image['modified']
    assert result.headers['x-content-type-options'] == 'nosniff'
    assert result.headers['content-security-policy'] == "default-src 'none'"
    assert result.headers['cache-control'] == 'public, max-age=31536000, immutable'


@pytest.mark.parametrize(
    'size',
    [
        '512x256',
        '64x32',
        '1024x512',
        '255x128',
        '256x127',
        '128x256',
        '0x0',
        '0256x128',
        '256x0128',
        '+256x128',
        '-256x-128',
        '2_56x128',
        '256.0x128',
        '256X128',
        '256\u00d7128',
        '\uff12\uff15\uff16x128',
        '\u0662\u0665\u0666x128',
        ' 256x128',
        '256x128 ',
        '256x128\n',
        '256x128x1',
        '256',
        'x',
        '99999x99999',
        '9' * 5000 + 'x128',
    ],
)
def test_thumbnail_of_no_listed_size(
    client: TestClient, image: Json, renders: Renders, redis: RedisServer, size: str
) -> None:
    problem(client.simulate_get(f'/thumbnails/{image["id"]}/{size}.jpeg'), 404)
    assert renders.count == 0
    assert redis.keys() == set()


def test_thumbnail_of_unknown_image(client: TestClient, renders: Renders) -> None:
    problem(client.simulate_get(f'/thumbnails/{UNKNOWN}/256x128.jpeg'), 404)
    assert renders.count == 0


@pytest.mark.parametrize(
    ('picture', 'sizes'),
    [(samples.photo(512, 256), '256x128, 128x64'), (samples.photo(99, 99), 'none')],
)
def test_unlisted_size_gets_the_listed_ones(
    client: TestClient, upload: Any, picture: bytes, sizes: str
) -> None:
    uri = f'/thumbnails/{upload(picture)["id"]}/100x50.jpeg'
    detail = f'This image has no thumbnail of that size; it has {sizes}.'
    assert problem(client.simulate_get(uri), 404) == detail


def test_thumbnail_head_renders_nothing(
    client: TestClient, image: Json, renders: Renders
) -> None:
    result = client.simulate_head(image['thumbnails'][0])
    assert (result.status_code, result.content) == (200, b'')
    assert 'content-length' not in result.headers
    assert renders.count == 0


def test_thumbnail_quality_is_another_etag(
    config: Config, client: TestClient, image: Json
) -> None:
    uri = image['thumbnails'][0]
    results = [client.simulate_get(uri)]
    config.jpeg_quality = 20
    results.append(TestClient(create_app(config)).simulate_get(uri))
    assert [result.headers['x-asgilook-cache'] for result in results] == ['Miss'] * 2
    assert results[0].headers['etag'] != results[1].headers['etag']
    assert len(results[1].content) < len(results[0].content)


async def test_thumbnail_renders_once_for_all(
    config: Config, image: Json, renders: Renders
) -> None:
    config.redis_host, config.create_redis_pool = None, no_redis
    renders.close()
    async with ASGIConductor(create_app(config)) as conductor:
        tasks = [
            asyncio.create_task(conductor.simulate_get(image['thumbnails'][0]))
            for _ in range(8)
        ]
        await renders.wait()
        tasks.pop().cancel()
        renders.gate.set()
        results = await asyncio.gather(*tasks)
    assert {result.status_code for result in results} == {200}
    assert len({result.content for result in results}) == 1
    assert renders.count == 1


def test_thumbnail_is_rendered_again_after_failure(
    client: TestClient, image: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    uri = image['thumbnails'][0]
    with monkeypatch.context() as patch:
        patch.setattr(transform, 'thumbnail', fail)
        problem(client.simulate_get(uri), 503)
    result = client.simulate_get(uri)
    assert (result.status_code, result.headers['x-asgilook-cache']) == (200, 'Miss')


def test_thumbnail_without_room(
    client: TestClient, image: Json, file_size_limit: None
) -> None:
    problem(client.simulate_get(image['thumbnails'][0]), 503)


def test_thumbnail_past_deadline(config: Config, image: Json) -> None:
    config.render_timeout = 1e-9
    client = TestClient(create_app(config))
    result = client.simulate_get(image['thumbnails'][0])
    assert 'time limit' in problem(result, 503)
    assert result.headers['retry-after'] == '1'


async def test_thumbnail_past_queue(
    config: Config, image: Json, renders: Renders
) -> None:
    config.threads, config.queue_size = 1, 0
    async with ASGIConductor(create_app(config)) as conductor:
        uri, other = image['thumbnails']
        renders.close()
        task = asyncio.create_task(conductor.simulate_get(uri))
        await renders.wait()
        rejected = await conductor.simulate_get(other)
        problem(rejected, 503)
        assert rejected.headers['retry-after'] == '1'
        assert (await conductor.simulate_get(image['image'])).status_code == 200
        renders.gate.set()
        assert (await task).status_code == 200
        assert (await conductor.simulate_get(other)).status_code == 200


def test_thumbnail_of_damaged_file(
    config: Config, client: TestClient, image: Json, redis: RedisServer
) -> None:
    path = os.path.join(config.storage_path, image['id'])
    os.truncate(path, os.path.getsize(path) // 4)
    uri = image['thumbnails'][0]
    assert 'damaged' in problem(client.simulate_get(uri), 500)
    assert redis.keys() == set()


def test_thumbnail_of_file_that_vanishes(
    config: Config, client: TestClient, image: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(storage: FolderStorage, image_id: str) -> BinaryIO:
        os.unlink(os.path.join(config.storage_path, image_id))
        return original(storage, image_id)

    original = FolderStorage.open
    monkeypatch.setattr(FolderStorage, 'open', vanish)
    problem(client.simulate_get(image['thumbnails'][0]), 404)
    assert client.simulate_get('/images').json == []


async def test_thumbnail_during_delete(
    config: Config, image: Json, renders: Renders, redis: RedisServer
) -> None:
    config.api_token = 's3cret'
    uri, path = image['thumbnails'][0], f'{config.storage_path}/{image["id"]}'
    kept = f'{config.storage_path}-kept'
    shutil.copy2(path, kept)
    async with ASGIConductor(create_app(config)) as conductor:
        renders.close()
        task = asyncio.create_task(conductor.simulate_get(uri))
        await renders.wait()
        deleted = await conductor.simulate_delete(image['image'], headers=TOKEN)
        assert deleted.status_code == 204
        renders.gate.set()
        assert (await task).status_code in (200, 404)
        assert files(config) == redis.keys() == set()
        problem(await conductor.simulate_get(uri), 404)
        # The same file once more: it would be a Hit if any tier had kept a copy.
        shutil.copy2(kept, path)
        result = await conductor.simulate_get(uri)
        assert (result.status_code, result.headers['x-asgilook-cache']) == (200, 'Miss')


async def test_thumbnail_after_shutdown_in_its_render(
    config: Config, image: Json, renders: Renders
) -> None:
    renders.close()
    tasks: list[asyncio.Task[Result]] = []
    async with ASGIConductor(create_app(config)) as conductor:
        get = conductor.simulate_get(image['thumbnails'][0])
        tasks.append(asyncio.create_task(get))
        await renders.wait()
        tasks[0].cancel()
        asyncio.get_running_loop().call_later(0.01, renders.gate.set)
    assert tasks[0].cancelled()
    assert renders.count == 1
