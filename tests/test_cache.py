from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aioredis
import msgpack
import pytest
from falcon.testing import ASGIConductor, Result, TestClient

from asgilook.app import create_app
from asgilook.cache import RedisCache
from asgilook.config import Config

from . import samples
from .conftest import (
    Json,
    RedisServer,
    Upload,
    logged,
    no_redis,
    place,
    problem,
)

LIST = 'asgilook:/images'
UNKNOWN = '00000000-0000-4000-8000-000000000000'


def cache_of(result: Result) -> str:
    """Return Hit or Miss, and check that Cache-Status (RFC 9211) says the same."""
    assert result.status_code == 200, result.text
    cache = result.headers['x-asgilook-cache']
    assert ('hit' in result.headers['cache-status']) is (cache == 'Hit')
    return str(cache)


def restarted(config: Config, **settings: Any) -> TestClient:
    """Return a client of another process of the service, with these settings."""
    for name, value in settings.items():
        setattr(config, name, value)
    return TestClient(create_app(config))


def test_cache_has_the_names_of_the_tutorial() -> None:
    assert RedisCache.PREFIX == 'asgilook:'
    assert RedisCache.CACHE_HEADER == 'X-ASGILook-Cache'
    assert RedisCache.TTL == 3600
    assert {'DELETE', 'POST', 'PUT'} <= RedisCache.INVALIDATE_ON


# Both tiers


@pytest.mark.parametrize(
    ('uri', 'tier'), [('list', 'memory'), ('image', 'memory'), ('thumbnail', 'memory')]
)
def test_second_get_is_a_hit(
    config: Config, client: TestClient, image: Json, uri: str, tier: str
) -> None:
    uris = {'list': '/images', 'thumbnail': str(image['thumbnails'][0])}
    results = [
        client.simulate_get(uris.get(uri, str(image['image']))) for _ in range(3)
    ]
    assert [cache_of(result) for result in results] == ['Miss', 'Hit', 'Hit']
    assert results[1].headers['cache-status'] == f'ASGILook; hit; detail={tier}'
    assert results[0].content == results[1].content == results[2].content != b''
    for result in results:
        del result.headers['x-asgilook-cache'], result.headers['cache-status']
    assert results[0].headers == results[1].headers


def test_redis_is_shared_by_processes(
    config: Config, client: TestClient, image: Json
) -> None:
    uris = ['/images', image['image'], *image['thumbnails']]
    made = [client.simulate_get(uri) for uri in uris]
    other = restarted(config)
    for tier in ('redis', 'memory'):
        for uri, expected in zip(uris, made, strict=True):
            result = other.simulate_get(uri)
            assert cache_of(result) == 'Hit'
            assert result.headers['cache-status'].endswith(f'detail={tier}')
            assert result.content == expected.content


def test_redis_has_a_key_for_each_url(
    client: TestClient, image: Json, redis: RedisServer
) -> None:
    client.simulate_get('/images')
    client.simulate_get(image['thumbnails'][0])
    assert redis.keys() == {LIST, f'asgilook:{image["thumbnails"][0]}'}


@pytest.mark.parametrize('ttl', [1, 7200])
def test_redis_forgets_after_cache_ttl(
    config: Config, redis: RedisServer, ttl: int
) -> None:
    restarted(config, cache_ttl=ttl).simulate_get('/images')
    assert 0 < redis.execute('PTTL', LIST) <= ttl * 1000


def test_upload_removes_the_lists(
    client: TestClient, upload: Upload, redis: RedisServer
) -> None:
    for accept in ('application/json', 'application/msgpack'):
        client.simulate_get('/images', headers={'Accept': accept})
    assert redis.keys() == {LIST, f'{LIST};msgpack'}
    upload()
    assert redis.keys() == set()


def test_list_by_media_type_has_two_keys(client: TestClient, image: Json) -> None:
    packed = {'Accept': 'application/msgpack'}
    caches = [
        cache_of(client.simulate_get('/images', headers=headers))
        for headers in ({}, packed, {}, packed)
    ]
    assert caches == ['Miss', 'Miss', 'Hit', 'Hit']


def test_cache_body_size_is_a_maximum(
    config: Config, redis: RedisServer, photo: bytes, image: Json
) -> None:
    size = len(photo)
    for limit, cache in ((size - 1, 'Miss'), (size, 'Hit')):
        redis.reset()
        client = restarted(config, cache_body_size=limit)
        first, second = (client.simulate_get(image['image']) for _ in range(2))
        assert (cache_of(first), cache_of(second)) == ('Miss', cache)
        assert first.content == second.content


def test_cache_body_size_of_thumbnail(config: Config, image: Json) -> None:
    uri = image['thumbnails'][0]
    size = len(restarted(config, redis_host=None).simulate_get(uri).content)
    for limit, cache in ((size - 1, 'Miss'), (size, 'Hit')):
        client = restarted(config, cache_body_size=limit)
        first, second = (client.simulate_get(uri) for _ in range(2))
        assert (cache_of(first), cache_of(second)) == ('Miss', cache)
        assert len(second.content) == size


def test_cache_memory_is_a_maximum(
    config: Config, redis: RedisServer, image: Json
) -> None:
    uri = image['thumbnails'][0]
    size = len(restarted(config).simulate_get(uri).content)
    for most, tier in ((0, 'redis'), (size - 1, 'redis'), (size, 'memory')):
        client = restarted(config, cache_memory=most)
        results = [client.simulate_get(uri) for _ in range(2)]
        assert results[1].headers['cache-status'].endswith(tier)
        assert results[0].content == results[1].content


def test_cache_memory_drops_what_was_used_least(config: Config, image: Json) -> None:
    uris = [image['image'], *image['thumbnails']]
    sizes = [len(restarted(config).simulate_get(uri).content) for uri in uris]
    assert sizes[0] > sizes[1] > sizes[2]
    client = restarted(config, cache_memory=sizes[0] + sizes[1])

    def tier(uri: str) -> str:
        return str(client.simulate_get(uri).headers['cache-status'][-6:])

    for uri in (*uris[:2], uris[0], uris[2]):
        tier(uri)
    assert [tier(uris[0]), tier(uris[2])] == ['memory', 'memory']
    assert tier(uris[1]) == '=redis'


async def test_cache_reports_the_state_of_redis(config: Config) -> None:
    async def state() -> str:
        cache = RedisCache(config)
        await cache.process_startup({}, {})
        state = await cache.redis_state()
        await cache.process_shutdown({}, {})
        return state

    assert await state() == 'up'
    config.create_redis_pool = no_redis
    assert await state() == 'none'


# Responses that are never cached


@pytest.mark.parametrize('query', ['limit=9', 'x', '='])
def test_query_is_not_cached(
    client: TestClient, image: Json, redis: RedisServer, query: str
) -> None:
    for uri in ('/images', image['thumbnails'][0]):
        for _ in range(2):
            result = client.simulate_get(uri, query_string=query)
            assert cache_of(result) == 'Miss'
            assert result.content
    assert redis.keys() == set()


def test_page_is_not_cached_as_the_list(
    config: Config, client: TestClient, photo: bytes
) -> None:
    images = [place(config, photo, number) for number in range(2)]
    for _ in range(2):
        assert client.simulate_get('/images').json == images
        assert client.simulate_get('/images', params={'limit': 1}).json == images[:1]


def test_head_fills_no_cache(
    client: TestClient, image: Json, redis: RedisServer
) -> None:
    for uri in ('/images', image['image'], *image['thumbnails']):
        assert cache_of(client.simulate_head(uri)) == 'Miss'
        assert redis.keys() == set()
        assert client.simulate_get(uri).content
        redis.execute('FLUSHALL')


def test_range_of_a_miss_is_cached_whole_or_not_at_all(
    client: TestClient, image: Json
) -> None:
    part = client.simulate_get(image['image'], headers={'Range': 'bytes=1-3'})
    assert (part.status_code, len(part.content)) == (206, 3)
    whole = client.simulate_get(image['image'])
    assert whole.content[1:4] == part.content
    part = client.simulate_get(image['image'], headers={'Range': 'bytes=1-3'})
    assert part.headers['x-asgilook-cache'] == 'Hit'
    assert whole.content[1:4] == part.content


@pytest.mark.parametrize(
    ('method', 'uri', 'status'),
    [
        ('GET', f'/images/{UNKNOWN}.jpeg', 404),
        ('GET', f'/thumbnails/{UNKNOWN}/64x64.jpeg', 404),
        ('GET', '/nothing', 404),
        ('GET', '/images/', 404),
        ('GET', f'/images/{UNKNOWN}.jpg', 404),
        ('PUT', '/images', 405),
        ('DELETE', f'/images/{UNKNOWN}.jpeg', 403),
        ('POST', '/images', 400),
    ],
)
def test_errors_are_not_cached(
    client: TestClient, redis: RedisServer, method: str, uri: str, status: int
) -> None:
    for _ in range(2):
        result = client.simulate_request(method, uri)
        problem(result, status)
        assert 'x-asgilook-cache' not in result.headers
        assert redis.calls() == 0
    assert redis.keys() == set()


def test_not_modified_needs_no_redis(
    config: Config, client: TestClient, image: Json, redis: RedisServer
) -> None:
    for uri in ('/images', image['image'], *image['thumbnails']):
        headers = {'If-None-Match': client.simulate_get(uri).headers['etag']}
        before = redis.calls()
        result = restarted(config).simulate_get(uri, headers=headers)
        assert (result.status_code, result.content) == (304, b'')
        assert redis.calls() == before


# Races


class Gate:
    """A Redis pool whose SET waits until it is opened."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def set(self, key: str, value: bytes, expire: int) -> Any:
        self.reached.set()
        await self.opened.wait()
        return await self._pool.set(key, value, expire=expire)


@pytest.mark.parametrize('memory', [0, 1 << 20])
@pytest.mark.parametrize('is_redis_up', [False, True])
def test_cache_status_of_a_miss(
    config: Config, image: Json, memory: int, is_redis_up: bool
) -> None:
    config.cache_memory = memory
    if not is_redis_up:
        config.create_redis_pool = no_redis
    client = TestClient(create_app(config))
    status = client.simulate_get(image['image']).headers['cache-status']
    assert status.startswith('ASGILook; fwd=uri-miss')
    assert ('stored' in status) == bool(memory or is_redis_up)


async def test_image_deleted_while_it_is_stored_leaves_no_copy(
    config: Config, redis: RedisServer, image: Json
) -> None:
    gates: list[Gate] = []

    async def connect(address: Any) -> Gate:
        gates.append(Gate(await redis.create_pool(address)))
        return gates[0]

    config.create_redis_pool = connect
    uri = image['thumbnails'][0]
    async with ASGIConductor(create_app(config)) as conductor:
        late = asyncio.create_task(conductor.simulate_get(uri))
        await gates[0].reached.wait()
        os.unlink(f'{config.storage_path}/{image["id"]}')
        gates[0].opened.set()
        result = await late
        assert result.status_code == 200
        assert result.headers['cache-status'] == 'ASGILook; fwd=uri-miss'
        assert redis.keys() == set()
        problem(await conductor.simulate_get(uri), 404)


async def test_list_stored_after_an_upload_is_a_miss(
    config: Config, redis: RedisServer, photo: bytes
) -> None:
    config.redis_timeout = 10
    gates: list[Gate] = []

    async def connect(address: Any) -> Gate:
        gates.append(Gate(await redis.create_pool(address)))
        return gates[0]

    config.create_redis_pool = connect
    async with ASGIConductor(create_app(config)) as conductor:
        late = asyncio.create_task(conductor.simulate_get('/images'))
        await gates[0].reached.wait()
        posted = await conductor.simulate_post('/images', body=photo)
        gates[0].opened.set()
        assert (await late).json == []
        assert msgpack.unpackb(redis.execute('GET', LIST))[-1] == b'[]'
        for cache in ('Miss', 'Hit'):
            result = await conductor.simulate_get('/images')
            assert result.json == [posted.json]
            assert cache_of(result) == cache


# A Redis that fails


Pool = Callable[..., Any]


class Broken:
    """A Redis pool of which every command does the same, such as to fail."""

    def __init__(self, command: Callable[[], Awaitable[Any]]) -> None:
        self._command = command
        self.connection = self

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda *args, **kwargs: self._command()


def raising(error: BaseException) -> Callable[..., Awaitable[Any]]:
    async def fail(*args: Any) -> Any:
        raise error

    return fail


def answering(value: Any) -> Callable[..., Awaitable[Any]]:
    async def answer(*args: Any) -> Any:
        return value

    return answer


async def hang(*args: Any) -> Any:
    await asyncio.Event().wait()


ERRORS = [
    aioredis.RedisError('broken'),
    aioredis.ReplyError('OOM command not allowed'),
    ConnectionResetError('reset'),
    TimeoutError(),
    UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid'),
    TypeError('wrong'),
    AssertionError('read only a part'),
]

# Replacements for `create_redis_pool`, by their faults.
FAULTS = {
    **{type(ex).__name__: answering(Broken(raising(ex))) for ex in ERRORS},
    'refused': raising(ConnectionRefusedError('refused')),
    'unforeseen': raising(AssertionError()),
    'connect-hangs': hang,
    'call-hangs': answering(Broken(hang)),
    'no-pool': answering(object()),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_failing_redis_is_a_miss(
    config: Config, image: Json, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    uri = image['thumbnails'][0]
    expected = restarted(config).simulate_get(uri).content
    config.create_redis_pool = FAULTS[fault]
    config.redis_host = 'redis://ada:s3cret@cache.example'
    client = restarted(config, redis_timeout=0.01, cache_memory=0)
    caplog.clear()
    for _ in range(2):
        result = client.simulate_get(uri)
        assert cache_of(result) == 'Miss'
        assert result.content == expected
        assert cache_of(client.simulate_get('/images')) == 'Miss'
    posted = client.simulate_post('/images', body=samples.photo(8, 8))
    assert posted.status_code == 201
    assert client.simulate_get('/images').json == [image, posted.json]
    (message,) = logged(caplog)
    assert message.startswith('WARNING')
    assert 'Redis' in message
    assert 's3cret' not in message


def test_failing_redis_leaves_memory(config: Config, image: Json) -> None:
    config.create_redis_pool = FAULTS['refused']
    client = restarted(config)
    for cache in ('Miss', 'Hit'):
        assert cache_of(client.simulate_get(image['thumbnails'][0])) == cache


@pytest.mark.parametrize(
    'value', [None, '', 'text', [], [b'x'], {}, 5, b'', b'\x00', object()]
)
def test_foreign_reply_is_a_miss(config: Config, image: Json, value: Any) -> None:
    uri = image['thumbnails'][0]
    expected = restarted(config).simulate_get(uri).content
    config.create_redis_pool = answering(Broken(answering(value)))
    client = restarted(config, cache_memory=0)
    for _ in range(2):
        result = client.simulate_get(uri)
        assert cache_of(result) == 'Miss'
        assert result.content == expected
        assert client.simulate_get('/images').json == [image]


def repacked(**changes: Any) -> Callable[[bytes], bytes]:
    def change(value: bytes) -> bytes:
        names = ('version', 'etag', 'content_type', 'body')
        fields = dict(zip(names, msgpack.unpackb(value), strict=True))
        return bytes(msgpack.packb([*(fields | changes).values()]))

    return change


@pytest.mark.parametrize(
    'change',
    [
        lambda value: b'',
        lambda value: b'\x00',
        lambda value: b'garbage',
        lambda value: b'\xc1' * 64,
        lambda value: b'\xff\xd8\xff\xe0' + value,
        lambda value: value[:1],
        lambda value: value[: len(value) // 2],
        lambda value: value[:-1],
        lambda value: value + b'\x00',
        lambda value: value + bytes(2**21),
        lambda value: msgpack.packb(msgpack.unpackb(value)[:-1]),
        lambda value: msgpack.packb([]),
        lambda value: msgpack.packb('text'),
        lambda value: msgpack.packb({'body': value}),
        lambda value: msgpack.packb(['image/jpeg', value]),
        repacked(version=0),
        repacked(version=2),
        repacked(etag='another'),
        repacked(content_type='text/html'),
        repacked(body='text'),
        repacked(body=None),
    ],
)
def test_foreign_value_is_a_miss(
    config: Config, image: Json, redis: RedisServer, change: Callable[[bytes], bytes]
) -> None:
    client = restarted(config, cache_memory=0)
    uri = image['thumbnails'][0]
    key = f'asgilook:{uri}'
    expected = client.simulate_get(uri).content
    redis.execute('SET', key, change(redis.execute('GET', key)))
    for cache in ('Miss', 'Hit'):
        result = client.simulate_get(uri)
        assert cache_of(result) == cache
        assert result.content == expected


def test_foreign_type_is_replaced(
    client: TestClient, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.execute('RPUSH', LIST, 'a list of Redis')
    results = [client.simulate_get('/images') for _ in range(2)]
    assert [cache_of(result) for result in results] == ['Miss', 'Hit']
    (message,) = logged(caplog)
    assert 'WRONGTYPE' in message


def test_redis_out_of_memory(
    config: Config, redis_engine: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = restarted(config, cache_memory=0)
    redis_engine.execute('CONFIG', 'SET', 'maxmemory', 1)
    try:
        results = [client.simulate_get('/images') for _ in range(2)]
    finally:
        redis_engine.execute('CONFIG', 'SET', 'maxmemory', 0)
    results += [client.simulate_get('/images') for _ in range(2)]
    assert [cache_of(result) for result in results] == ['Miss', 'Miss', 'Miss', 'Hit']
    (message,) = logged(caplog)
    assert 'OOM' in message


def test_no_redis_at_all(config: Config, image: Json) -> None:
    config.create_redis_pool = answering(None)
    client = restarted(config, redis_host=None)
    for uri in ('/images', image['image']):
        caches = [cache_of(client.simulate_get(uri)) for _ in range(2)]
        assert caches == ['Miss', 'Hit']
