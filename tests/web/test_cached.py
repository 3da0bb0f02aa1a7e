"""Responses sent without Falcon, compared with Falcon's."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import falcon.asgi
import msgpack
import pytest
from falcon.testing import ASGIConductor, TestClient

from asgilook.app import create_app
from asgilook.cache import RedisCache
from asgilook.config import Config
from asgilook.errors import StorageUnavailable
from asgilook.index.folder import FolderIndex
from asgilook.models import Image
from asgilook.web import cached
from asgilook.web.cached import MemoryTier
from asgilook.web.record import Record, Representation

from .. import samples
from ..conftest import Json, RedisServer, Upload, no_redis, place

ORIGIN = 'https://a.example'
MSGPACK = 'application/msgpack'

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


@pytest.fixture
def falcon_asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths of the requests that Falcon has answered."""
    asked: list[str] = []
    original = falcon.asgi.App.__call__

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] == 'http':
            asked.append(scope['path'])
        await original(self, scope, receive, send)

    monkeypatch.setattr(falcon.asgi.App, '__call__', call)
    return asked


@pytest.fixture
def client(falcon_asked: list[str], config: Config) -> TestClient:
    return TestClient(create_app(config))


async def ask(
    app: Any, method: str, target: str, headers: list[tuple[str, str]], **scope: Any
) -> Answer:
    """Send a request as a server would; return the raw response."""
    path, _, query = target.partition('?')
    messages: list[Any] = []

    async def receive() -> Any:
        return {'type': 'http.request', 'body': b''}

    async def send(message: Any) -> None:
        messages.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    asgi: dict[str, Any] = {
        'type': 'http',
        'asgi': {'version': '3.0', 'spec_version': '2.3'},
        'http_version': '1.1',
        'method': method,
        'scheme': 'http',
        'path': path.replace('%69', 'i'),
        'raw_path': path.encode(),
        'query_string': query.encode(),
        'root_path': '',
        'headers': raw,
        'client': ('127.0.0.1', 50000),
        'server': ('127.0.0.1', 8000),
    }
    await app({**asgi, **scope}, receive, send)
    body = b''.join(message.get('body', b'') for message in messages[1:])
    return messages[0]['status'], list(messages[0]['headers']), body


# Headers that change no answer: the first of each group is what nginx.conf and
# browsers send, the others what else is common.
NEUTRAL: list[list[tuple[str, str]]] = [
    [],
    [
        ('Host', 'images.example'),
        ('X-Request-ID', 'b1946ac92492d2347c6235b4d2611184'),
        ('X-Forwarded-For', '203.0.113.7'),
        ('X-Forwarded-Proto', 'https'),
        ('User-Agent', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101'),
        ('Accept', 'image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8'),
        ('Accept-Language', 'en-GB,en;q=0.7'),
        ('Accept-Encoding', 'gzip, deflate, br, zstd'),
        ('Cookie', 'session=0123456789'),
        ('Sec-Fetch-Dest', 'image'),
        ('Sec-Fetch-Mode', 'no-cors'),
        ('Sec-Fetch-Site', 'same-origin'),
        ('Sec-GPC', '1'),
        ('Referer', 'https://images.example/'),
    ],
    [('X-Request-ID', 'not sane')],
    [('X-Request-ID', 'a'), ('X-Request-ID', 'b')],
    [('Accept', MSGPACK)],
    [('Accept', 'text/html'), ('Accept', MSGPACK)],
    [('Accept', f'application/json;q=0.5, {MSGPACK}')],
    [('Accept', 'nonsense')],
    [('Accept', '')],
    [('Cache-Control', 'no-cache'), ('Pragma', 'no-cache')],
    [('Authorization', 'Bearer s3cret'), ('DNT', '1')],
    [('Forwarded', 'for=203.0.113.7'), ('Via', '1.1 proxy'), ('X-Real-IP', '::1')],
    [('Content-Length', '0'), ('Content-Type', 'text/plain')],
    [('Expect', '100-continue'), ('Connection', 'close'), ('TE', 'trailers')],
    [('Upgrade-Insecure-Requests', '1'), ('Priority', 'u=5, i')],
]

# Headers that may change an answer; ETAG and DATE stand for those of the resource.
DECISIVE: list[list[tuple[str, str]]] = [
    [],
    [('If-None-Match', 'ETAG')],
    [('If-None-Match', 'W/ETAG')],
    [('If-None-Match', '"other"')],
    [('If-None-Match', '"other", ETAG')],
    [('If-None-Match', '"other"'), ('If-None-Match', 'ETAG')],
    [('If-None-Match', 'ETAG'), ('If-None-Match', '"other"')],
    [('If-None-Match', '*')],
    [('If-None-Match', '')],
    [('If-None-Match', 'ETAG'), ('If-Modified-Since', 'DATE')],
    [('If-None-Match', 'ETAG'), ('If-Match', '"other"')],
    [('If-None-Match', 'ETAG'), ('If-Unmodified-Since', 'DATE')],
    [
        ('If-None-Match', 'ETAG'),
        ('If-Unmodified-Since', 'Mon, 01 Jan 2001 00:00:00 GMT'),
    ],
    [('If-None-Match', 'ETAG'), ('Range', 'bytes=0-9')],
    [('If-None-Match', 'ETAG'), ('Origin', ORIGIN)],
    [('If-Modified-Since', 'DATE')],
    [('If-Modified-Since', 'Mon, 01 Jan 2001 00:00:00 GMT')],
    [('If-Match', 'ETAG')],
    [('If-Match', '"other"')],
    [('If-Unmodified-Since', 'Mon, 01 Jan 2001 00:00:00 GMT')],
    [('Range', 'bytes=0-9')],
    [('Range', 'bytes=-5')],
    [('Range', 'bytes=99999999-')],
    [('Range', 'bytes=0-9'), ('If-Range', 'ETAG')],
    [('Range', 'bytes=0-9'), ('If-Range', '"other"')],
    [('If-Range', 'ETAG')],
    [('Origin', ORIGIN)],
    [('Origin', 'https://other.example')],
]

TARGETS = ['/images', 'IMAGE', 'THUMBNAIL']

# URLs that are not cached, or that name nothing.
OTHER_TARGETS = [
    '/images?limit=1',
    'IMAGE?x=1',
    '//images',
    '/%69mages',
    '/images;msgpack',
    '/images/',
]

PLAIN: list[tuple[str, str]] = []
REVALIDATION = [('If-None-Match', 'ETAG')]

COMBINATIONS = [
    *itertools.product(DECISIVE, NEUTRAL[:2]),
    *itertools.product([PLAIN, REVALIDATION], NEUTRAL[2:]),
]
FEW_COMBINATIONS = [*itertools.product([PLAIN, REVALIDATION], NEUTRAL[:2])]


@pytest.mark.parametrize('cors', [None, '*', [ORIGIN]], ids=['closed', 'any', 'listed'])
@pytest.mark.parametrize('memory', [64 * 2**20, 0], ids=['memory', 'redis'])
async def test_cached_response_is_falcons_byte_for_byte(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    image: Json,
    cors: Any,
    memory: int,
) -> None:
    config.cors_origins = cors
    config.cache_memory = memory
    app = create_app(config)
    statuses: list[int] = []

    async def compare(method: str, target: str, headers: Any, **scope: Any) -> None:
        fast = await ask(app, method, target, headers, **scope)
        with monkeypatch.context() as patch:
            patch.setattr(RedisCache, 'answer', leave_it_to_falcon)
            slow = await ask(app, method, target, headers, **scope)
        assert fast == slow, (method, target, headers, scope)
        statuses.append(fast[0])

    async def compare_all(target: str, combinations: Any) -> None:
        target = target.replace('IMAGE', image['image'])
        target = target.replace('THUMBNAIL', image['thumbnails'][0])
        validators = {}
        for accept in ('*/*', MSGPACK):
            for _ in range(3):
                _, found, _ = await ask(app, 'GET', target, [('Accept', accept)])
            validators[accept] = dict(found)
        for decisive, neutral in combinations:
            packed = any(MSGPACK in value for _, value in neutral)
            known_headers = validators[MSGPACK if packed else '*/*']
            etag = known_headers.get(b'etag', b'"none"').decode()
            date = known_headers.get(b'last-modified', b'').decode()
            headers = [
                (name, value.replace('ETAG', etag).replace('DATE', date))
                for name, value in neutral + decisive
            ]
            await compare('GET', target, headers)
        for method in ('HEAD', 'OPTIONS', 'PUT', 'get'):
            await compare(method, target, [])
        await compare('GET', target, [], http_version='1.0')

    async with ASGIConductor(app):
        for target in TARGETS:
            await compare_all(target, COMBINATIONS)
            target = target.replace('IMAGE', image['image'])
            target = target.replace('THUMBNAIL', image['thumbnails'][0])
            await compare('GET', target, [], raw_path=None)
        for target in OTHER_TARGETS:
            await compare_all(target, FEW_COMBINATIONS)
    assert len(statuses) > 300
    assert {200, 206, 304, 404, 412, 416} <= set(statuses)


async def leave_it_to_falcon(self: RedisCache, record: Record) -> None:
    return None


@pytest.mark.parametrize('memory', [64 * 2**20, 0], ids=['memory', 'redis'])
async def test_neutral_headers_need_no_falcon(
    config: Config, falcon_asked: list[str], image: Json, memory: int
) -> None:
    config.cache_memory = memory
    app = create_app(config)
    async with ASGIConductor(app):
        for target in ('/images', image['image'], image['thumbnails'][0]):
            for headers in NEUTRAL:
                for _ in range(2 if memory else 3):
                    _, found, _ = await ask(app, 'GET', target, headers)
                falcon_asked.clear()
                etag = dict(found)[b'etag'].decode()
                again, *_ = await ask(app, 'GET', target, headers)
                unmodified, *_ = await ask(
                    app, 'GET', target, [*headers, ('If-None-Match', etag)]
                )
                assert (again, unmodified) == (200, 304)
                assert falcon_asked == []


async def test_clients_share_nothing_but_the_representation(
    config: Config, image: Json
) -> None:
    """No request id, CORS header or cookie of one client reaches another one."""
    config.cors_origins = [ORIGIN]
    app = create_app(config)
    async with ASGIConductor(app):
        for target in ('/images', image['image'], image['thumbnails'][0]):
            for _ in range(2):
                _, plain, _ = await ask(app, 'GET', target, [])
            for number in range(20):
                mine = [('X-Request-ID', f'id-{number}'), ('Cookie', f'c={number}')]
                _, headers, _ = await ask(app, 'GET', target, mine)
                assert headers[-1] == (b'x-request-id', f'id-{number}'.encode())
                assert headers[:-1] == plain
                _, headers, _ = await ask(app, 'GET', target, [('Origin', ORIGIN)])
                assert (b'access-control-allow-origin', ORIGIN.encode()) in headers
                _, headers, _ = await ask(app, 'GET', target, [])
                assert headers == plain


# Validity


def known(client: TestClient, width: int = 300) -> tuple[str, Any]:
    """Upload an image; return its URL, and the response of a hit."""
    image = client.simulate_post('/images', body=samples.photo(width, 200)).json
    for _ in range(3):
        hit = client.simulate_get(image['image'])
    assert hit.headers['x-asgilook-cache'] == 'Hit'
    return str(image['image']), hit


def path(config: Config, uri: str) -> Path:
    """Return where the image of a URL is stored."""
    return Path(config.storage_path) / uri.rpartition('/')[2].removesuffix('.jpeg')


def test_deleted_image_is_not_found(config: Config, client: TestClient) -> None:
    uri, hit = known(client)
    path(config, uri).unlink()
    for headers in {}, {'If-None-Match': hit.headers['etag']}:
        assert client.simulate_get(uri, headers=headers).status_code == 404


def test_replaced_image_is_answered_anew(config: Config, client: TestClient) -> None:
    uri, hit = known(client)
    path(config, uri).write_bytes(samples.photo(150, 100))
    for state in 'Miss', 'Hit', 'Hit':
        result = client.simulate_get(uri)
        assert samples.decode(result.content).size == (150, 100)
        assert result.headers['x-asgilook-cache'] == state
    assert result.headers['etag'] != hit.headers['etag']


def test_image_of_unknown_state_is_left_to_falcon(
    client: TestClient, falcon_asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(index: FolderIndex, image: Image) -> bool:
        raise StorageUnavailable('Not now.')

    uri, hit = known(client)
    falcon_asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(FolderIndex, 'is_current', fail)
        assert client.simulate_get(uri).content == hit.content
    assert falcon_asked == [uri]
    assert client.simulate_get(uri).content == hit.content
    assert falcon_asked == [uri]


def test_evicted_response_is_left_to_falcon(
    config: Config, falcon_asked: list[str]
) -> None:
    config.cache_memory = 30_000
    config.create_redis_pool = no_redis
    client = TestClient(create_app(config))
    uri, hit = known(client)
    for width in range(301, 306):
        known(client, width)
    falcon_asked.clear()
    result = client.simulate_get(uri)
    assert falcon_asked == [uri]
    assert result.headers['x-asgilook-cache'] == 'Miss'
    assert result.content == hit.content


def test_value_that_left_redis_is_rendered_again(
    config: Config, falcon_asked: list[str], redis: RedisServer
) -> None:
    config.cache_memory = 0
    client = TestClient(create_app(config))
    uri, hit = known(client)
    redis.execute('FLUSHALL')
    falcon_asked.clear()
    result = client.simulate_get(uri)
    assert falcon_asked == [uri]
    assert result.headers['x-asgilook-cache'] == 'Miss'
    assert result.content == hit.content


def test_value_of_another_length_is_left_to_falcon(
    config: Config, redis: RedisServer
) -> None:
    config.cache_memory = 0
    client = TestClient(create_app(config))
    uri, _ = known(client)
    key = f'asgilook:{uri}'
    *head, _ = msgpack.unpackb(redis.execute('GET', key))
    redis.execute('SET', key, msgpack.packb([*head, b'short']))
    result = client.simulate_get(uri)
    assert result.headers['content-length'] == str(len(result.content))


# The list


def test_list_hit_needs_neither_page_nor_redis(
    client: TestClient,
    falcon_asked: list[str],
    upload: Upload,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages: list[Any] = []
    original = FolderIndex.page

    async def page(self: Any, *args: Any, **kwargs: Any) -> Any:
        pages.append(args)
        return await original(self, *args, **kwargs)

    monkeypatch.setattr(FolderIndex, 'page', page)
    images = [upload()]
    for _ in range(3):
        assert client.simulate_get('/images').json == images
        assert len(pages) == 1  # a miss asks the index once
        before = redis.calls()
        falcon_asked.clear()
        for _ in range(3):
            assert client.simulate_get('/images').json == images
        assert (len(pages), redis.calls(), falcon_asked) == (1, before, [])
        images.append(upload())
        pages.clear()


def test_list_changed_by_another_process_is_answered_anew(
    config: Config, client: TestClient, photo: bytes
) -> None:
    images = []
    for number in range(3):
        images.append(place(config, photo, number))
        for state in 'Miss', 'Hit', 'Hit':
            result = client.simulate_get('/images')
            assert result.json == images
            assert result.headers['x-asgilook-cache'] == state


# The memory tier


def response(key: str, size: int) -> cached.CachedResponse:
    record = Record({'method': 'GET', 'path': key, 'query_string': b'', 'headers': []})
    representation = Representation(key, 'etag', 'image/jpeg', ())
    return cached.make_response(record, representation, bytes(size))


def keys(memory: MemoryTier, *names: str) -> str:
    return ''.join(name for name in names if name in memory)


def test_memory_tier_drops_the_least_recently_used() -> None:
    memory = MemoryTier(30)
    for name in 'abc':
        memory.put(response(name, 10))
    memory.move_to_end('a')
    memory.put(response('d', 10))
    assert keys(memory, *'abcd') == 'acd'
    memory.put(response('e', 30))
    assert keys(memory, *'abcde') == 'e'
    memory.put(response('e', 1))
    memory.put(response('f', 29))
    assert keys(memory, *'ef') == 'ef'
    memory.drop('e')
    memory.drop('e')
    assert keys(memory, *'ef') == 'f'


def test_memory_tier_keeps_the_head_of_a_large_response() -> None:
    memory = MemoryTier(30)
    memory.put(response('a', 30))
    memory.put(response('b', 31))
    assert keys(memory, *'ab') == 'ab'
    found = memory['b']
    assert (found.body, found.length) == (None, 31)


def test_memory_tier_has_a_limited_number_of_responses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cached, 'MAX_ENTRIES', 2)
    memory = MemoryTier(0)
    for name in 'abc':
        memory.put(response(name, 10))
    assert keys(memory, *'abc') == 'bc'
