"""Real services whose PostgreSQL or Redis fails, is limited, or read-only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asgilook.events.relay import CHANNEL

from . import samples
from .databases import PostgreSQL
from .event_streams import Subscriber
from .proxy import Proxy
from .servers import LONG_LIMITS, RedisServer, Server, paused, until
from .test_machines import clients

pytestmark = pytest.mark.integration

TOKEN = {'Authorization': 'Bearer s3cret'}


@pytest.fixture
def proxy(postgresql_db: PostgreSQL) -> Iterator[Proxy]:
    with Proxy(postgresql_db.port) as proxy:
        yield proxy


@pytest.fixture
def settings(postgresql_db: PostgreSQL, proxy: Proxy) -> dict[str, Any]:
    return {'database_url': postgresql_db.at(proxy.port), 'api_token': 's3cret'}


def ready(server: Server) -> int:
    return server.get('/healthz/ready').status


def is_hit(server: Server, uri: str) -> bool:
    return server.get(uri).hit


def check_outage_responses(server: Server, image: Any, photo: bytes) -> None:
    """Check the responses of a service whose database is unavailable."""
    files = server.files
    for uri in (image['image'], image['thumbnails'][0]):
        hit = server.get(uri)
        assert (hit.status, hit.hit) == (200, True)
        assert server.get(uri, If_None_Match=hit.headers['ETag']).status == 304
    missed = server.get(image['thumbnails'][1])
    assert (missed.status, missed.hit) == (200, False)
    for answer in (
        server.get('/images'),
        server.get(image['image'].replace(image['id'][:4], '0000')),
        server.ask('POST', '/images', photo, **TOKEN),
        server.ask('DELETE', image['image'], **TOKEN),
        server.get('/healthz/ready'),
    ):
        assert answer.status == 503
        assert answer.is_problem
        assert answer.headers['Retry-After'] == '1'
    assert server.files == files


@pytest.mark.parametrize(
    ('stop', 'resume'), [(Proxy.cut, Proxy.restore), (Proxy.freeze, Proxy.thaw)]
)
def test_service_without_its_database(
    tmp_path: Path,
    proxy: Proxy,
    settings: dict[str, Any],
    stop: Callable[[Proxy], None],
    resume: Callable[[Proxy], None],
) -> None:
    photo = samples.photo(512, 256)
    with Server(tmp_path, **settings) as server:
        image = server.upload(photo, **TOKEN)
        for uri in (image['image'], image['thumbnails'][0]):
            until(partial(is_hit, server, uri))
        assert ready(server) == 200
        stop(proxy)
        until(lambda: ready(server) == 503)
        server.logged('is unavailable')
        check_outage_responses(server, image, photo)
        resume(proxy)
        until(lambda: ready(server) == 200)
        assert server.images() == [image]
        second = server.upload(photo, **TOKEN)
        assert server.ask('DELETE', image['image'], **TOKEN).status == 204
        assert server.images() == [second]
        assert server.files == [second['id']]
        assert 'postgres:postgres' not in server.log


def test_service_that_starts_before_its_database(
    tmp_path: Path, proxy: Proxy, settings: dict[str, Any]
) -> None:
    proxy.cut()
    with Server(tmp_path, **settings) as server:
        assert ready(server) == 503
        assert server.log.count('the database at') == 1
        proxy.restore()
        until(lambda: ready(server) == 200)
        image = server.upload(samples.photo(512, 256), **TOKEN)
        with Server(tmp_path, **settings) as other:
            assert other.images() == [image]
            assert other.ask('DELETE', image['image'], **TOKEN).status == 204
        assert server.get(image['image']).status == 404


def test_redis_in_storms(tmp_path: Path) -> None:
    """Three workers under load, while Redis is frozen, killed and restarted."""
    redis = RedisServer(tmp_path)
    settings: dict[str, Any] = {'redis_host': redis.url, 'cache_memory': 0}
    with (
        Server(tmp_path, '--workers', '3', **settings) as server,
        ExitStack() as started,
    ):
        started.enter_context(redis)
        streams = [
            stream
            for _ in range(2)
            for stream in server.on_each_worker(lambda: Subscriber(server.port))
        ]
        with clients(server) as (load,):
            for fault in 3 * ['freeze', 'kill', 'flush', 'freeze', 'stop']:
                load.wait(2)
                if fault == 'freeze':
                    with paused(redis.pid):
                        load.wait(4)
                elif fault == 'flush':
                    redis.command('CLIENT KILL TYPE pubsub')
                    redis.command('FLUSHALL')
                else:
                    (redis.kill if fault == 'kill' else redis.stop)()
                    load.wait(2)
                    redis = started.enter_context(RedisServer(tmp_path, redis.port))
        assert set(load.answers) == {200, 201}
        until(lambda: redis.command('PUBSUB', 'NUMSUB', CHANNEL)[1] == 3)
        until(partial(is_heard, server, streams))
        assert all(stream.is_alive() for stream in streams)
        assert {image['id'] for image in server.images()} >= {*load.stored}
        server.stop()


def is_heard(server: Server, streams: list[Subscriber]) -> bool:
    """Return whether all streams receive an upload."""
    image = server.upload(samples.photo(64, 64))
    for _ in range(100):
        if all(image['id'] in line for line in [str(s.lines) for s in streams]):
            return True
        time.sleep(0.01)
    return False


def test_service_with_few_connections(
    tmp_path: Path, postgresql_db: PostgreSQL
) -> None:
    """Three connections of a role are enough for 24 clients."""
    photo = samples.photo(128, 64)

    def use(server: Server) -> set[int]:
        image = server.upload(photo, **TOKEN)
        uris = image['image'], *image['thumbnails'], '/images?limit=3'
        return {server.get(uri).status for uri in uris}

    with postgresql_db.role('CONNECTION LIMIT 3') as role:
        url = postgresql_db.as_role(role)
        settings: dict[str, Any] = {'database_url': url, 'api_token': 's3cret'}
        with (
            Server(tmp_path, limits=LONG_LIMITS, **settings) as server,
            ThreadPoolExecutor(24) as executor,
        ):
            statuses = executor.map(use, [server] * 72)
            assert set().union(*statuses) == {200}
            assert len(server.images()) == 72
            assert postgresql_db.connections() <= 3
            assert 'the database' not in server.log


def test_service_with_read_only_database(
    tmp_path: Path, postgresql_db: PostgreSQL
) -> None:
    photo = samples.photo(512, 256)
    with postgresql_db.role() as role:
        url = postgresql_db.as_role(role)
        with Server(tmp_path, database_url=url, api_token='s3cret') as server:
            image = server.upload(photo, **TOKEN)
            alter = f'ALTER ROLE {role} SET default_transaction_read_only'
            postgresql_db.execute(f'{alter} = on')
            postgresql_db.end_connections()
            for _ in range(3):
                assert server.get('/images').json == [image]
                for uri in (image['image'], *image['thumbnails']):
                    assert server.get(uri).status == 200
                for answer in (
                    server.ask('POST', '/images', photo, **TOKEN),
                    server.ask('DELETE', image['image'], **TOKEN),
                    server.get('/healthz/ready'),
                ):
                    assert answer.status == 503
                    assert answer.is_problem
                    assert answer.headers['Retry-After'] == '1'
                assert answer.json['database'] == 'down'
            postgresql_db.execute(f'{alter} = off')
            until(lambda: ready(server) == 200)
            server.upload(photo, **TOKEN)
            assert server.ask('DELETE', image['image'], **TOKEN).status == 204
            assert server.log.count('is read-only') == 1
