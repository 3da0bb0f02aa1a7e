from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import falcon
import falcon.asgi
import msgpack
import pytest
from falcon.testing import ASGIConductor, Result, TestClient
from PIL import Image

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import StorageUnavailable
from asgilook.imaging import transform
from asgilook.store import Store

from . import samples
from .conftest import (
    FILE_SIZE,
    Json,
    RedisServer,
    Upload,
    files,
    place,
    problem,
)

UNKNOWN = '00000000-0000-4000-8000-000000000000'
BOUNDARY = 'xxBOUNDARYxx'
FORM = f'multipart/form-data; boundary={BOUNDARY}'


def form(*bodies: bytes, field: str = 'image') -> bytes:
    parts = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; '
        f'filename="{number}.png"\r\n\r\n'.encode()
        + body
        + b'\r\n'
        for number, body in enumerate(bodies)
    )
    return b''.join(parts) + f'--{BOUNDARY}--\r\n'.encode()


@pytest.fixture
def reject(
    config: Config, client: TestClient, redis: RedisServer
) -> Callable[..., Result]:
    """Return a function that posts a rejected body and checks that nothing remains."""

    def reject(status: int, body: bytes, **kwargs: Any) -> Result:
        before = client.simulate_get('/images')
        result = client.simulate_post('/images', body=body, **kwargs)
        problem(result, status)
        assert 'location' not in result.headers
        assert files(config) == set()
        assert redis.keys() == {'asgilook:/images'}
        after = client.simulate_get('/images')
        assert after.json == before.json == []
        assert after.headers['etag'] == before.headers['etag']
        return result

    return reject


# Uploads


@pytest.mark.parametrize(
    'content_type', [None, 'image/jpeg', 'image/png', 'application/json', 'nonsense']
)
def test_upload_of_any_content_type(
    client: TestClient, photo: bytes, content_type: str | None
) -> None:
    headers = {'Content-Type': content_type} if content_type else {}
    result = client.simulate_post('/images', body=photo, headers=headers)
    assert result.status == falcon.HTTP_201
    assert result.headers['location'] == result.json['image']
    assert set(result.json) == {'id', 'image', 'modified', 'size', 'thumbnails'}
    assert result.json['size'] == [512, 256]
    assert client.simulate_get(result.json['image']).status_code == 200


def test_upload_returns_the_same_json_as_get(
    client: TestClient, upload: Upload
) -> None:
    image = upload()
    result = client.simulate_get(image['image'])
    assert result.headers['last-modified'] == image['modified']
    assert image['image'] == f'/images/{image["id"]}.jpeg'
    assert image['thumbnails'] == [
        f'/thumbnails/{image["id"]}/{size}.jpeg' for size in ('256x128', '128x64')
    ]


def test_upload_keeps_jpeg_pixels(
    client: TestClient, photo: bytes, upload: Upload
) -> None:
    stored = client.simulate_get(upload()['image']).content
    assert samples.decode(stored).tobytes() == samples.decode(photo).tobytes()


def test_upload_from_form(client: TestClient) -> None:
    body = form(samples.png(512, 256), field='picture')
    result = client.simulate_post('/images', body=body, content_type=FORM)
    assert result.status_code == 201
    assert result.json['size'] == [512, 256]
    assert client.simulate_get('/images').json == [result.json]


@pytest.mark.parametrize(
    ('status', 'body'),
    [
        (400, b''),
        (415, b'no image at all'),
        (415, b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'),
        (415, b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        (422, samples.photo(64, 64)[:-200]),
        (422, samples.photo(64, 64)[:40]),
        (422, samples.png(64, 64)[:200]),
        (422, samples.png(65501, 1, mode='1')),
    ],
)
def test_rejected_body(reject: Callable[..., Result], status: int, body: bytes) -> None:
    reject(status, body)


@pytest.mark.parametrize(
    ('status', 'body', 'detail'),
    [
        (400, form(), 'no file'),
        (400, form(b''), 'empty'),
        (400, form(samples.png(9, 9), samples.png(9, 9)), 'more than one'),
        (400, form(samples.png(9, 9))[:-20], None),
        (400, b'', None),
        (415, form(b'text'), 'not a'),
    ],
)
def test_rejected_form(
    reject: Callable[..., Result], status: int, body: bytes, detail: str | None
) -> None:
    result = reject(status, body, content_type=FORM)
    assert (detail or '') in result.json.get('detail', '')


def test_rejected_form_without_boundary(reject: Callable[..., Result]) -> None:
    reject(400, form(b'x'), content_type='multipart/form-data')


@pytest.mark.parametrize('wrap', [bytes, form])
def test_upload_of_maximum_size(
    config: Config, photo: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    config.max_upload_size = len(photo)
    headers = {'Content-Type': FORM} if wrap is form else {}
    client = TestClient(create_app(config))
    result = client.simulate_post('/images', body=wrap(photo), headers=headers)
    assert result.status_code == 201
    result = client.simulate_post('/images', body=wrap(photo + b'+'), headers=headers)
    assert str(len(photo)) in problem(result, 413)
    assert len(files(config)) == 1


@pytest.mark.parametrize('encode', [samples.photo, samples.png])
def test_upload_of_maximum_pixels(config: Config, encode: Callable[..., bytes]) -> None:
    config.max_pixels = 200 * 100
    client = TestClient(create_app(config))
    assert client.simulate_post('/images', body=encode(200, 100)).status_code == 201
    problem(client.simulate_post('/images', body=encode(201, 100)), 413)
    assert len(files(config)) == 1


def test_upload_past_deadline(config: Config, reject: Callable[..., Result]) -> None:
    config.render_timeout = 1e-9
    client = TestClient(create_app(config))
    result = client.simulate_post('/images', body=samples.photo(64, 64))
    assert 'time limit' in problem(result, 422)
    assert files(config) == set()


def test_upload_to_a_full_disk(
    reject: Callable[..., Result], photo: bytes, file_size_limit: None
) -> None:
    assert len(photo) > FILE_SIZE
    reject(507, photo)


def test_upload_whose_jpeg_fills_the_disk(
    reject: Callable[..., Result], file_size_limit: None
) -> None:
    body = samples.encode(samples.scene(512, 256), 'WEBP', quality=5)
    assert len(body) < FILE_SIZE
    reject(507, body)


@pytest.mark.parametrize('function', ['fsync', 'replace'])
@pytest.mark.parametrize(
    ('code', 'status'),
    [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EIO, 503), (errno.EROFS, 503)],
)
def test_upload_to_a_failing_disk(
    reject: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    code: int,
    status: int,
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    result = reject(status, samples.photo(64, 64))
    assert ('retry-after' in result.headers) == (status == 503)


@pytest.mark.parametrize('body', [samples.photo(64, 64), samples.png(64, 64)])
def test_upload_out_of_memory(
    reject: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(transform, 'to_jpeg', fail)
    assert reject(503, body).headers['retry-after'] == '1'


def test_upload_with_an_unexpected_error(
    reject: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise LookupError('a secret of the service')

    monkeypatch.setattr(transform, 'to_jpeg', fail)
    assert 'secret' not in reject(500, samples.photo(64, 64)).text
    assert 'a secret of the service' in caplog.text


async def test_upload_past_queue_is_rejected_unread(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.threads, config.queue_size = 1, 1
    full, release = threading.Event(), threading.Event()
    original = transform.to_jpeg

    def slow(*args: Any, **kwargs: Any) -> Any:
        full.set()
        release.wait(10)
        return original(*args, **kwargs)

    monkeypatch.setattr(transform, 'to_jpeg', slow)
    body = samples.photo(64, 64)
    async with ASGIConductor(create_app(config)) as conductor:
        post = conductor.simulate_post
        first = asyncio.create_task(post('/images', body=body))
        await asyncio.to_thread(full.wait, 10)
        second = asyncio.create_task(post('/images', body=body))
        rejected: Result | None = None
        while rejected is None:
            result = await conductor.simulate_post('/images', body=b'')
            rejected = result if result.status_code != 400 else None
        assert 'waiting' in problem(rejected, 503)
        assert int(rejected.headers['retry-after']) >= 1
        release.set()
        assert (await first).status_code == (await second).status_code == 201
        assert (await post('/images', body=body)).status_code == 201
    assert len(files(config)) == 3


async def test_upload_outlives_its_client(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, release = threading.Event(), threading.Event()
    original = transform.to_jpeg

    def slow(*args: Any, **kwargs: Any) -> Any:
        running.set()
        release.wait(10)
        return original(*args, **kwargs)

    monkeypatch.setattr(transform, 'to_jpeg', slow)
    body = samples.photo(64, 64)
    async with ASGIConductor(create_app(config)) as conductor:
        task = asyncio.create_task(conductor.simulate_post('/images', body=body))
        await asyncio.to_thread(running.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
    async with ASGIConductor(create_app(config)) as conductor:
        (image,) = (await conductor.simulate_get('/images')).json
    assert files(config) == {image['id']}


# The list


def test_list_is_oldest_first(client: TestClient, upload: Upload) -> None:
    images = [upload(samples.photo(8 + n, 8)) for n in range(5)]
    assert client.simulate_get('/images').json == images


def test_list_state_has_its_etag(client: TestClient, upload: Upload) -> None:
    etags = [client.simulate_get('/images').headers['etag']]
    for number in range(2):
        upload(samples.photo(8, 8 + number))
        result = client.simulate_get('/images')
        assert result.headers['cache-control'] == 'no-cache'
        etags.append(result.headers['etag'])
    assert len(set(etags)) == 3


@pytest.mark.parametrize(
    ('accept', 'media_type'),
    [
        (None, 'application/json'),
        ('*/*', 'application/json'),
        ('text/html', 'application/json'),
        ('nonsense', 'application/json'),
        ('application/msgpack', 'application/msgpack'),
        ('application/json;q=0.5, application/msgpack', 'application/msgpack'),
        ('application/json, application/msgpack;q=0.5', 'application/json'),
    ],
)
def test_list_media_type(
    client: TestClient, image: Json, accept: str | None, media_type: str
) -> None:
    headers = {'Accept': accept} if accept else {}
    for cache in ('Miss', 'Hit'):
        result = client.simulate_get('/images', headers=headers)
        assert result.headers['content-type'] == media_type
        assert result.headers['vary'] == 'Accept'
        assert result.headers['x-asgilook-cache'] == cache
        msgpacked = media_type.endswith('msgpack')
        got = msgpack.unpackb(result.content) if msgpacked else result.json
        assert got == [image]


def test_list_etag_differs_by_media_type(client: TestClient) -> None:
    accepts = ({'Accept': f'application/{name}'} for name in ('json', 'msgpack'))
    results = [client.simulate_get('/images', headers=accept) for accept in accepts]
    assert results[0].headers['etag'] != results[1].headers['etag']


@pytest.mark.parametrize('limit', [1, 2, 3, 4, 5, 6, 999999999])
@pytest.mark.parametrize('order', ['', 'order=oldest', 'order=newest'])
def test_list_by_pages(
    config: Config, client: TestClient, photo: bytes, order: str, limit: int
) -> None:
    images = [place(config, photo, number) for number in range(5)]
    pages = []
    uri: str | None = f'/images?{order}&limit={limit}'
    while uri:
        path, _, query = uri.partition('?')
        result = client.simulate_get(path, query_string=query)
        pages.append(result.json)
        link = result.headers.get('link')
        uri = link and link.removeprefix('<').removesuffix('>; rel="next"')
        assert not uri or ('order=newest' in uri) == (order == 'order=newest')
    if order == 'order=newest':
        images.reverse()
    assert [image for page in pages for image in page] == images
    assert all(len(page) == limit for page in pages[:-1])
    assert 0 < len(pages[-1]) <= limit


def test_list_page_size_is_a_maximum(config: Config, photo: bytes) -> None:
    images = [place(config, photo, number) for number in range(3)]
    for page_size, linked in ((2, True), (3, False)):
        config.page_size = page_size
        client = TestClient(create_app(config))
        for query in ('', 'limit=3', 'limit=4'):
            result = client.simulate_get('/images', query_string=query)
            assert result.json == images[:page_size]
            assert ('link' in result.headers) is linked


def test_list_after_last_is_empty(client: TestClient, image: Json) -> None:
    result = client.simulate_get('/images', params={'after': image['id']})
    assert (result.status_code, result.json) == (200, [])
    assert 'link' not in result.headers


@pytest.mark.parametrize(
    'query',
    [
        'limit=',
        'after=',
        'limit',
        'limit=0',
        'limit=-1',
        'limit=x',
        'limit=1.5',
        'limit=1000000000',
        'limit=%D9%A1',
        'limit=\xb9',
        'after=x',
        f'after={UNKNOWN}',
        'after=%00',
        'after=%FF',
    ],
)
def test_list_rejects_query(client: TestClient, image: Json, query: str) -> None:
    problem(client.simulate_get('/images', query_string=query), 400)


@pytest.mark.parametrize('query', ['', 'x=1', 'x', '=', '&', '%FF=%FF'])
def test_list_ignores_query(client: TestClient, image: Json, query: str) -> None:
    assert client.simulate_get('/images', query_string=query).json == [image]


# One image


def test_image_headers(client: TestClient, image: Json) -> None:
    result = client.simulate_get(image['image'])
    assert result.headers['content-type'] == 'image/jpeg'
    assert result.headers['content-length'] == str(len(result.content))
    assert result.headers['x-content-type-options'] == 'nosniff'
    assert result.headers['content-security-policy'] == "default-src 'none'"
    assert result.headers['cache-control'] == 'public, max-age=31536000, immutable'
    assert result.headers['accept-ranges'] == 'bytes'
    assert result.headers['etag'].startswith('"')


def test_large_image_is_streamed(
    config: Config, image: Json, client: TestClient
) -> None:
    whole = client.simulate_get(image['image'])
    config.cache_body_size = len(whole.content) - 1
    streamed = TestClient(create_app(config)).simulate_get(image['image'])
    assert streamed.content == whole.content
    for name in ('cache-status', 'x-asgilook-cache'):
        del whole.headers[name], streamed.headers[name]
    assert streamed.headers == whole.headers


@pytest.mark.parametrize('which', ['/images', 'image', 'thumbnail', 'large'])
def test_head_is_get_without_body(
    config: Config, client: TestClient, image: Json, which: str
) -> None:
    if which == 'large':
        config.cache_body_size = 10
        client = TestClient(create_app(config))
    uris = {'/images': '/images', 'thumbnail': str(image['thumbnails'][0])}
    uri = uris.get(which, str(image['image']))
    head = client.simulate_head(uri, headers={'Range': 'bytes=0-9'})
    get = client.simulate_get(uri)
    cached = client.simulate_head(uri)
    assert head.content == cached.content == b''
    assert head.status == get.status == cached.status == falcon.HTTP_200
    for result, hit in ((head, 'Miss'), (get, 'Miss'), (cached, 'Hit')):
        hit = 'Miss' if which == 'large' else hit
        assert result.headers.pop('x-asgilook-cache') == hit
        assert hit == 'Miss' or 'hit' in result.headers['cache-status']
        del result.headers['cache-status']
    assert cached.headers == get.headers
    if which == 'thumbnail':
        del get.headers['content-length']
    assert head.headers == get.headers


@pytest.mark.parametrize('uri', ['/images', 'image', 'thumbnail'])
def test_options_is_never_cached(client: TestClient, image: Json, uri: str) -> None:
    allowed = {'/images': {'GET', 'HEAD', 'POST'}, 'image': {'DELETE', 'GET', 'HEAD'}}
    expected = allowed.get(uri, {'GET', 'HEAD'})
    uri = {'image': image['image'], 'thumbnail': image['thumbnails'][0]}.get(uri, uri)
    options = client.simulate_options(uri)
    assert set(options.headers['allow'].split(', ')) == expected
    assert 'x-asgilook-cache' not in options.headers
    get = client.simulate_get(uri)
    assert get.headers['x-asgilook-cache'] == 'Miss'
    assert get.content


@pytest.mark.parametrize('method', ['PUT', 'PATCH', 'TRACE'])
@pytest.mark.parametrize('uri', ['/images', 'image', 'thumbnail'])
def test_other_methods(client: TestClient, image: Json, method: str, uri: str) -> None:
    uri = {'image': image['image'], 'thumbnail': image['thumbnails'][0]}.get(uri, uri)
    result = client.simulate_request(method, uri)
    problem(result, 405)
    assert 'GET' in result.headers['allow']


@pytest.mark.parametrize('accept', ['image/*', 'text/xml', 'nonsense', '*/*;q=0'])
def test_errors_have_a_body_whatever_accept_is(client: TestClient, accept: str) -> None:
    uri = f'/images/{UNKNOWN}.jpeg'
    assert problem(client.simulate_get(uri, headers={'Accept': accept}), 404)


# Canonical URLs


@pytest.mark.parametrize(
    'change',
    [
        str.upper,
        lambda image_id: image_id.replace('-', ''),
        lambda image_id: f'{{{image_id}}}',
        lambda image_id: f'urn:uuid:{image_id}',
        lambda image_id: f'0x{image_id}',
        lambda image_id: f' {image_id}',
        lambda image_id: image_id.replace('-', '_'),
        lambda image_id: image_id.replace('0', '\uff10'),
        lambda image_id: f'{image_id}\n',
        lambda image_id: f'../images/{image_id}',
    ],
)
def test_other_spellings_of_id(
    client: TestClient, image: Json, redis: RedisServer, change: Callable[[str], str]
) -> None:
    for uri in (image['image'], *image['thumbnails']):
        assert client.simulate_get(uri).status_code == 200
        other = uri.replace(image['id'], change(image['id']))
        assert other != uri
        problem(client.simulate_get(other), 404)
    assert len(redis.keys()) == 3


@pytest.mark.parametrize(
    'uri',
    [
        '//images',
        '/images/',
        '/images//',
        '/Images',
        '/%69mages',
        '/images%20',
        '//IMAGE',
        '/IMAGE/',
        '/images/../IMAGE',
        '/./IMAGE',
        '/%69mages/ID.jpeg',
        '/images//ID.jpeg',
        '/images/ID%2Ejpeg',
        '/images/ID.jpg',
        '/images/ID.JPEG',
        '/images/ID',
    ],
)
def test_other_spellings_of_path(
    client: TestClient, image: Json, redis: RedisServer, uri: str
) -> None:
    uri = uri.replace('IMAGE', image['image'][1:]).replace('ID', image['id'])
    problem(client.simulate_get(uri), 404)
    assert redis.keys() == set()


# Deletion and tokens

TOKEN = {'Authorization': 'Bearer s3cret'}


@pytest.fixture
def owner(config: Config) -> TestClient:
    """Return a client of a service that has a token, without sending it."""
    config.api_token = 's3cret'
    return TestClient(create_app(config))


def test_delete_removes_everything(
    config: Config, owner: TestClient, image: Json, redis: RedisServer
) -> None:
    uris = [image['image'], *image['thumbnails']]
    for uri in (*uris, '/images', *uris, '/images'):
        assert owner.simulate_get(uri).status_code == 200
    owner.simulate_get('/images', headers={'Accept': 'application/msgpack'})
    assert len(redis.keys()) == 5
    result = owner.simulate_delete(image['image'], headers=TOKEN)
    assert (result.status_code, result.content) == (204, b'')
    assert files(config) == redis.keys() == set()
    for uri in uris:
        problem(owner.simulate_get(uri), 404)
    assert owner.simulate_get('/images').json == []
    problem(owner.simulate_delete(image['image'], headers=TOKEN), 404)


@pytest.mark.parametrize(
    ('name', 'wrong'),
    [
        ('If-Match', '"other"'),
        ('If-Unmodified-Since', 'Sat, 08 Sep 2001 01:46:41 GMT'),
    ],
)
def test_delete_has_preconditions(
    config: Config, owner: TestClient, image: Json, name: str, wrong: str
) -> None:
    current = owner.simulate_get(image['image']).headers
    right = current['etag' if name == 'If-Match' else 'last-modified']
    problem(owner.simulate_delete(image['image'], headers=TOKEN | {name: wrong}), 412)
    assert files(config) == {image['id']}
    result = owner.simulate_delete(image['image'], headers=TOKEN | {name: right})
    assert result.status_code == 204
    assert files(config) == set()


def test_delete_leaves_the_others(
    config: Config, owner: TestClient, photo: bytes
) -> None:
    images = [place(config, photo, number) for number in range(3)]
    owner.simulate_delete(images[1]['image'], headers=TOKEN)
    assert owner.simulate_get('/images').json == [images[0], images[2]]
    assert owner.simulate_get(images[2]['image']).status_code == 200


def test_delete_without_token_setting(
    config: Config, client: TestClient, image: Json
) -> None:
    assert 'ASGI_LOOK_API_TOKEN' in problem(client.simulate_delete(image['image']), 403)
    assert files(config) == {image['id']}


@pytest.mark.parametrize(
    'value',
    [
        None,
        '',
        'Bearer',
        'Bearer ',
        'Bearer s3cre',
        'Bearer s3cret2',
        'Bearer S3CRET',
        'Basic s3cret',
        's3cret',
        'Bearer s\u00e9cret',
    ],
)
@pytest.mark.parametrize('method', ['POST', 'DELETE'])
def test_write_without_token(
    config: Config,
    owner: TestClient,
    photo: bytes,
    image: Json,
    method: str,
    value: str | None,
) -> None:
    uri = '/images' if method == 'POST' else image['image']
    headers = {} if value is None else {'Authorization': value}
    result = owner.simulate_request(method, uri, body=photo, headers=headers)
    problem(result, 401)
    assert result.headers['www-authenticate'] == 'Bearer'
    assert files(config) == {image['id']}


@pytest.mark.parametrize('value', ['bearer s3cret', 'BEARER s3cret', 'Bearer  s3cret '])
def test_write_with_token(owner: TestClient, photo: bytes, value: str) -> None:
    headers = {'Authorization': value}
    result = owner.simulate_post('/images', body=photo, headers=headers)
    assert result.status_code == 201
    uri = result.json['image']
    assert owner.simulate_delete(uri, headers=headers).status_code == 204


def test_reading_needs_no_token(owner: TestClient, image: Json) -> None:
    for uri in ('/images', image['image'], *image['thumbnails']):
        assert owner.simulate_get(uri).status_code == 200


# Storage


async def test_vanished_folder(config: Config, photo: bytes) -> None:
    config.api_token = 's3cret'
    away = f'{config.storage_path}-away'
    async with ASGIConductor(create_app(config)) as conductor:
        post = {'body': photo, 'headers': TOKEN}
        image = (await conductor.simulate_post('/images', **post)).json
        uri, thumbnail = image['image'], image['thumbnails'][0]
        assert (await conductor.simulate_get(uri)).status_code == 200
        shutil.move(config.storage_path, away)
        for result in (
            await conductor.simulate_get('/images'),
            await conductor.simulate_get(uri),
            await conductor.simulate_get(thumbnail),
            await conductor.simulate_post('/images', **post),
            await conductor.simulate_delete(uri, headers=TOKEN),
        ):
            problem(result, 503)
            assert result.headers['retry-after'] == '5'
        shutil.move(away, config.storage_path)
        assert (await conductor.simulate_get('/images')).json == [image]
        assert (await conductor.simulate_get(uri)).status_code == 200
        assert (await conductor.simulate_post('/images', **post)).status_code == 201


async def test_folder_that_is_a_file(config: Config, photo: bytes) -> None:
    async with ASGIConductor(create_app(config)) as conductor:
        image = (await conductor.simulate_post('/images', body=photo)).json
        shutil.rmtree(config.storage_path)
        os.mknod(config.storage_path)
        problem(await conductor.simulate_get(image['image']), 503)
        problem(await conductor.simulate_get('/images'), 503)


@pytest.mark.parametrize('damage', [b'', b'garbage', b'\xff\xd8\xff\xe0garbage'])
def test_image_overwritten_with_garbage(
    config: Config, client: TestClient, image: Json, damage: bytes
) -> None:
    client.simulate_get(image['image'])
    with open(os.path.join(config.storage_path, image['id']), 'wb') as file:
        file.write(damage)
    problem(client.simulate_get(image['image']), 404)
    assert client.simulate_get('/images').json == []


def test_image_replaced(config: Config, client: TestClient, image: Json) -> None:
    other = place(config, samples.photo(300, 200), 2)
    before = client.simulate_get(image['image'])
    other_bytes = client.simulate_get(other['image']).content
    time_ns = time.time_ns()
    with open(os.path.join(config.storage_path, image['id']), 'wb') as file:
        file.write(other_bytes)
    os.utime(file.name, ns=(time_ns, time_ns))
    result = client.simulate_get(image['image'])
    assert result.content == other_bytes
    assert result.headers['etag'] != before.headers['etag']
    assert result.headers['x-asgilook-cache'] == 'Miss'
    listed = client.simulate_get('/images').json
    assert [item['size'] for item in listed] == [[300, 200], [300, 200]]


# Newest first


def test_orders_have_their_own_etags_and_cache_keys(
    config: Config, client: TestClient, photo: bytes, redis: RedisServer
) -> None:
    images = [place(config, photo, number) for number in range(3)]
    for state in 'Miss', 'Hit', 'Hit':
        oldest = client.simulate_get('/images')
        newest = client.simulate_get('/images?order=newest')
        assert (oldest.json, newest.json) == (images, images[::-1])
        for result in oldest, newest:
            assert result.headers['x-asgilook-cache'] == state
        assert oldest.headers['etag'] != newest.headers['etag']
    assert redis.keys() == {'asgilook:/images', 'asgilook:/images?order=newest'}
    images.append(client.simulate_post('/images', body=photo).json)
    assert redis.keys() == set()
    assert client.simulate_get('/images?order=newest').json == images[::-1]
    assert client.simulate_get('/images?order=oldest').json == images


@pytest.mark.parametrize(
    'query',
    ['order=', 'order=new', 'order=NEWEST', 'order=newest&order=newest', 'order'],
)
def test_invalid_order(client: TestClient, image: Json, query: str) -> None:
    problem(client.simulate_get('/images', query_string=query), 400)


# WebP


def test_webp_thumbnail(
    config: Config, client: TestClient, image: Json, redis: RedisServer
) -> None:
    jpeg = client.simulate_get(image['thumbnails'][0])
    uri = image['thumbnails'][0].replace('.jpeg', '.webp')
    for state in 'Miss', 'Hit':
        webp = client.simulate_get(uri, headers={'Accept': 'image/jpeg'})
        assert webp.headers['content-type'] == 'image/webp'
        assert webp.headers['x-asgilook-cache'] == state
        assert 'vary' not in webp.headers
        assert samples.decode(webp.content).size == (256, 128)
        assert samples.decode(webp.content).format == 'WEBP'
    assert len(webp.content) < len(jpeg.content)
    assert webp.headers['etag'] != jpeg.headers['etag']
    assert redis.keys() >= {f'asgilook:{uri}'}
    head = client.simulate_head(uri)
    assert (head.status_code, head.content) == (200, b'')


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'WEBP', 'avif', 'webp.jpeg', ''])
def test_other_suffixes(client: TestClient, image: Json, suffix: str) -> None:
    uri = image['thumbnails'][0].replace('jpeg', suffix)
    problem(client.simulate_get(uri), 404)


def test_webp_of_image_or_unlisted_size(client: TestClient, image: Json) -> None:
    problem(client.simulate_get(image['image'].replace('.jpeg', '.webp')), 404)
    uri = f'/thumbnails/{image["id"]}/255x128.webp'
    problem(client.simulate_get(uri), 404)


@pytest.mark.parametrize('size', [(33_000, 300), (300, 33_000)])
def test_webp_of_a_long_image(
    config: Config, client: TestClient, upload: Upload, size: tuple[int, int]
) -> None:
    """A side of a WebP has at most 16,383 pixels."""
    image = upload(samples.encode(Image.new('L', size), 'PNG'))
    assert len(image['thumbnails']) == 2
    uris = [uri.replace('.jpeg', '.webp') for uri in image['thumbnails']]
    statuses = [client.simulate_get(uri).status_code for uri in uris]
    assert statuses == [404, 200]
    long = max(size) // 4
    detail = problem(client.simulate_get(uris[0]), 404)
    assert detail.endswith(f'has {min(long, size[0] // 4)}x{min(long, size[1] // 4)}.')
    assert client.simulate_head(uris[0]).status_code == 404


def test_delete_removes_webp(
    config: Config, owner: TestClient, image: Json, redis: RedisServer
) -> None:
    uri = image['thumbnails'][0].replace('.jpeg', '.webp')
    assert owner.simulate_get(uri).status_code == 200
    owner.simulate_delete(image['image'], headers=TOKEN)
    assert redis.keys() == set()
    problem(owner.simulate_get(uri), 404)


# Tags for caches


def test_cache_tags(client: TestClient, image: Json) -> None:
    webp = image['thumbnails'][0].replace('.jpeg', '.webp')
    for uri in (image['image'], *image['thumbnails'], webp):
        for _ in range(2):
            result = client.simulate_get(uri)
            assert result.headers['cache-tag'] == image['id']
            assert result.headers['cache-groups'] == f'"{image["id"]}"'
        headers = {'If-None-Match': result.headers['etag']}
        unmodified = client.simulate_get(uri, headers=headers)
        assert unmodified.headers['cache-tag'] == image['id']
    assert 'cache-tag' not in client.simulate_get('/images').headers


# Large images


def test_large_image_that_cannot_be_opened(
    config: Config, image: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets an error status, as the file is opened before the headers are sent."""
    config.cache_body_size = 1000
    client = TestClient(create_app(config))

    async def fail(self: Store, *args: Any) -> Any:
        raise StorageUnavailable('The storage is unavailable.')

    monkeypatch.setattr(Store, 'open_stream', fail)
    for headers in {}, {'Range': 'bytes=0-9'}:
        problem(client.simulate_get(image['image'], headers=headers), 503)


def test_form_with_a_file_name_that_is_not_utf_8(client: TestClient) -> None:
    body = form(samples.png(9, 9)).replace(b'0.png', b'caf\xe9.png')
    result = client.simulate_post('/images', body=body, content_type=FORM)
    assert result.status_code == 201


@pytest.mark.parametrize('brand', [b'heic', b'heix', b'hevc', b'mif1', b'msf1'])
def test_heic_is_rejected_with_advice(client: TestClient, brand: bytes) -> None:
    body = b'\0\0\0\x18ftyp' + brand + b'\0\0\0\0mif1heic' + bytes(100)
    detail = problem(client.simulate_post('/images', body=body), 415)
    assert 'HEIC' in detail
    assert 'JPEG' in detail
