from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import aioredis
import pytest
from falcon.asgi import App
from falcon.testing import ASGIConductor, Result, TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import ImageDamaged
from asgilook.imaging import transform
from asgilook.resources.health import Health
from asgilook.resources.probes import ComponentState
from asgilook.web.lifespan import Draining

from ..conftest import no_redis, problem
from .test_probes import make_probes, up

READY, LIVE = '/healthz/ready', '/healthz/live'


async def reject_connection(address: Any) -> Any:
    """Replace `create_redis_pool` where Redis is unreachable."""
    raise ConnectionRefusedError


def test_live(client: TestClient) -> None:
    answer = client.simulate_get(LIVE)
    assert (answer.status_code, answer.json) == (200, {'state': 'live'})
    assert answer.headers['Cache-Control'] == 'no-store'
    assert 'X-ASGILook-Cache' not in answer.headers


def test_ready(client: TestClient) -> None:
    answer = client.simulate_get(READY)
    assert answer.status_code == 200
    assert answer.json == {'state': 'ready', 'storage': 'up', 'redis': 'up'}
    assert answer.headers['Cache-Control'] == 'no-store'
    assert 'X-ASGILook-Cache' not in answer.headers


@pytest.mark.parametrize('path', [LIVE, READY])
def test_head_has_the_headers_of_get(client: TestClient, path: str) -> None:
    got, head = client.simulate_get(path), client.simulate_head(path)
    assert (head.status_code, head.content) == (200, b'')
    assert head.headers == got.headers


@pytest.mark.parametrize(
    ('connect', 'state'), [(no_redis, 'none'), (reject_connection, 'down')]
)
def test_ready_without_redis(
    config: Config, connect: Callable[[Any], Awaitable[Any]], state: str
) -> None:
    config.create_redis_pool = connect
    answer = TestClient(create_app(config)).simulate_get(READY)
    assert answer.status_code == 200
    assert answer.json == {'state': 'ready', 'storage': 'up', 'redis': state}


def test_redis_that_rejects_commands_is_down(config: Config) -> None:
    class Connections:
        async def clear(self) -> None:
            """Close nothing."""

    class RejectingPool:
        connection = Connections()

        async def ping(self) -> None:
            raise aioredis.ReplyError('NOAUTH Authentication required.')

    async def connect(address: Any) -> RejectingPool:
        return RejectingPool()

    config.create_redis_pool = connect
    answer = TestClient(create_app(config)).simulate_get(READY)
    assert (answer.status_code, answer.json['redis']) == (200, 'down')


async def test_unavailable_storage_and_recovery(config: Config) -> None:
    folder, elsewhere = config.storage_path, f'{config.storage_path}.away'
    async with ASGIConductor(create_app(config)) as conductor:
        os.rename(folder, elsewhere)
        answer = await conductor.simulate_get(READY)
        assert problem(answer, 503) == 'The storage is unavailable, read-only or full.'
        expected = {'state': 'unready', 'storage': 'down', 'redis': 'up'}
        assert answer.json.items() >= expected.items()
        assert answer.headers['Retry-After'] == '1'
        head = await conductor.simulate_head(READY)
        assert (head.status_code, head.content) == (503, b'')
        assert (await conductor.simulate_get(LIVE)).status_code == 200

        os.rename(elsewhere, folder)
        assert (await conductor.simulate_get(READY)).status_code == 200


def probe(health: Health) -> Result:
    """Request readiness without the rest of the app."""
    app: App[Any, Any] = App()
    app.add_route(READY, health, suffix='ready')
    return TestClient(app).simulate_get(READY)


async def down() -> ComponentState:
    """Stand for a component that reports a failure."""
    return 'down'


async def hang() -> ComponentState:
    """Stand for a component that does not answer."""
    await asyncio.Event().wait()
    return 'up'


def make_health(draining: Draining | None = None, **probes: Any) -> Health:
    """Return the resource; components that are not named work."""
    return Health(make_probes(**probes), draining or Draining())


def test_draining() -> None:
    draining = Draining()
    health = make_health(draining=draining)
    assert probe(health).status_code == 200
    asyncio.run(draining.stop())
    answer = probe(health)
    assert problem(answer, 503) == 'The service is stopping.'
    expected = {'state': 'draining', 'storage': 'up', 'redis': 'up'}
    assert answer.json.items() >= expected.items()


def test_hanging_disk_blocks_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated probes start no further thread, and the disk may recover."""
    over, began = threading.Event(), []

    def wait() -> bool:
        began.append(True)
        return over.wait()

    monkeypatch.setattr('asgilook.resources.probes.PROBE_TIMEOUT', 0.1)
    health = make_health(is_storage_usable=wait)
    for _ in range(3):
        answer = probe(health)
        assert (answer.status_code, answer.json['storage']) == (503, 'down')
    assert began == [True]
    over.set()
    monkeypatch.setattr('asgilook.resources.probes.PROBE_TIMEOUT', 10)
    assert probe(health).status_code == 200
    assert began == [True] * 2


def test_ready_with_database() -> None:
    answer = probe(make_health(database_state=up))
    parts = {'storage': 'up', 'database': 'up', 'redis': 'up'}
    assert answer.json == {'state': 'ready', **parts}


@pytest.mark.parametrize('database', [down, hang])
def test_unavailable_database(
    monkeypatch: pytest.MonkeyPatch, database: Callable[[], Awaitable[ComponentState]]
) -> None:
    monkeypatch.setattr('asgilook.resources.probes.PROBE_TIMEOUT', 0.1)
    answer = probe(make_health(database_state=database))
    assert problem(answer, 503) == 'The database is unavailable or read-only.'
    parts = {'storage': 'up', 'database': 'down', 'redis': 'up'}
    assert answer.json.items() >= {'state': 'unready', **parts}.items()


def test_hanging_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('asgilook.resources.probes.PROBE_TIMEOUT', 0.1)
    answer = probe(make_health(redis_state=hang))
    assert answer.status_code == 200
    assert answer.json == {'state': 'ready', 'storage': 'up', 'redis': 'down'}


async def test_health_does_not_wait_behind_uploads(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.threads, config.queue_size = 1, 1
    begun, over = threading.Event(), threading.Event()

    def convert(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        over.wait(30)
        raise ImageDamaged

    monkeypatch.setattr(transform, 'to_jpeg', convert)
    async with ASGIConductor(create_app(config)) as conductor:
        uploads = [
            asyncio.create_task(conductor.simulate_post('/images', body=b'x'))
            for _ in range(2)
        ]
        await asyncio.to_thread(begun.wait, 30)
        for path in (READY, LIVE):
            assert (await conductor.simulate_get(path)).status_code == 200
        assert not any(upload.done() for upload in uploads)
        over.set()
        assert {(await upload).status_code for upload in uploads} == {422}
