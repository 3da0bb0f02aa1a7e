from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aioredis
import pytest
from falcon.asgi import App
from falcon.testing import ASGIConductor, Result, TestClient

from asgilook import transform
from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import ImageDamaged
from asgilook.health import Health, State, is_usable
from asgilook.lifecycle import Draining

from .conftest import no_redis, problem, serve

READY, LIVE = '/healthz/ready', '/healthz/live'


async def refuse(address: Any) -> Any:
    """Stand for `create_redis_pool` where Redis is down."""
    raise ConnectionRefusedError


@pytest.fixture
def statvfs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that changes what the file system says of itself."""

    def change(**fields: int) -> None:
        real = os.statvfs('/')
        names = [name for name in dir(real) if name.startswith('f_')]
        values = {name: getattr(real, name) for name in names} | fields
        status = type('Status', (), values)
        monkeypatch.setattr(os, 'statvfs', lambda path: status)

    return change


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


@pytest.mark.parametrize(('connect', 'state'), [(no_redis, 'none'), (refuse, 'down')])
def test_ready_without_redis(
    config: Config, connect: Callable[[Any], Awaitable[Any]], state: str
) -> None:
    config.create_redis_pool = connect
    answer = TestClient(create_app(config)).simulate_get(READY)
    assert answer.status_code == 200
    assert answer.json == {'state': 'ready', 'storage': 'up', 'redis': state}


def test_redis_that_refuses_is_down(config: Config) -> None:
    class Connections:
        async def clear(self) -> None:
            """Close nothing."""

    class Refusing:
        connection = Connections()

        async def ping(self) -> None:
            raise aioredis.ReplyError('NOAUTH Authentication required.')

    async def connect(address: Any) -> Refusing:
        return Refusing()

    config.create_redis_pool = connect
    answer = TestClient(create_app(config)).simulate_get(READY)
    assert (answer.status_code, answer.json['redis']) == (200, 'down')


def test_storage_that_is_gone_and_comes_back(config: Config) -> None:
    folder, elsewhere = config.storage_path, f'{config.storage_path}.away'

    async def scenario(conductor: ASGIConductor) -> None:
        os.rename(folder, elsewhere)
        answer = await conductor.simulate_get(READY)
        assert problem(answer, 503) == "The storage can't be used now."
        expected = {'state': 'unready', 'storage': 'down', 'redis': 'up'}
        assert answer.json.items() >= expected.items()
        assert answer.headers['Retry-After'] == '1'
        head = await conductor.simulate_head(READY)
        assert (head.status_code, head.content) == (503, b'')
        assert (await conductor.simulate_get(LIVE)).status_code == 200

        os.rename(elsewhere, folder)
        assert (await conductor.simulate_get(READY)).status_code == 200

    serve(create_app(config), scenario)


def test_usable_folder(tmp_path: Path) -> None:
    assert is_usable(str(tmp_path))


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    assert not is_usable(str(tmp_path / 'file'))


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def access(path: str, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, 'access', access)
    assert not is_usable(str(tmp_path))
    assert asked == [(f'{tmp_path}/.', os.R_OK | os.W_OK | os.X_OK)]


@pytest.mark.parametrize(
    ('fields', 'usable'),
    [
        ({'f_bavail': 256, 'f_frsize': 4096}, True),
        ({'f_bavail': 255, 'f_frsize': 4096}, False),
        ({'f_bavail': 0}, False),
        ({'f_favail': 1, 'f_files': 100}, True),
        ({'f_favail': 0, 'f_files': 100}, False),
        ({'f_favail': 0, 'f_files': 0}, True),
    ],
)
def test_full_storage(
    tmp_path: Path,
    statvfs: Callable[..., None],
    fields: dict[str, int],
    usable: bool,
) -> None:
    statvfs(**fields)
    assert is_usable(str(tmp_path)) is usable


def test_storage_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> Any:
        raise OSError

    monkeypatch.setattr(os, 'statvfs', fail)
    assert not is_usable(str(tmp_path))


def probe(health: Health) -> tuple[Result, float]:
    """Ask for readiness, without the rest of the app; return also how long it took."""
    app: App[Any, Any] = App()
    app.add_route(READY, health, suffix='ready')
    start = time.monotonic()
    return TestClient(app).simulate_get(READY), time.monotonic() - start


async def is_up() -> State:
    """Stand for a Redis."""
    return 'up'


def test_draining(tmp_path: Path) -> None:
    draining = Draining()
    health = Health(str(tmp_path), is_up, draining)
    assert probe(health)[0].status_code == 200
    asyncio.run(draining.process_shutdown({}, {}))
    answer, _ = probe(health)
    assert problem(answer, 503) == 'The service is stopping.'
    expected = {'state': 'draining', 'storage': 'up', 'redis': 'up'}
    assert answer.json.items() >= expected.items()


def test_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread waits for it, however often one asks; and it may come back."""
    over, began = threading.Event(), []

    def hang(folder: str) -> bool:
        began.append(folder)
        return over.wait(30)

    monkeypatch.setattr('asgilook.health.is_usable', hang)
    monkeypatch.setattr('asgilook.health.PATIENCE', 0.1)
    health = Health(str(tmp_path), is_up, Draining())
    for _ in range(3):
        answer, seconds = probe(health)
        assert (answer.status_code, answer.json['storage']) == (503, 'down')
        assert seconds < 5
    assert began == [str(tmp_path)]
    over.set()
    monkeypatch.setattr('asgilook.health.PATIENCE', 10)
    assert probe(health)[0].status_code == 200
    assert began == [str(tmp_path)] * 2


def test_redis_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> State:
        return await asyncio.sleep(30, 'up')

    monkeypatch.setattr('asgilook.health.PATIENCE', 0.1)
    answer, seconds = probe(Health(str(tmp_path), hang, Draining()))
    assert answer.status_code == 200
    assert answer.json == {'state': 'ready', 'storage': 'up', 'redis': 'down'}
    assert seconds < 5


def test_health_does_not_wait_behind_uploads(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.threads, config.queue_size = 1, 1
    begun, over = threading.Event(), threading.Event()

    def convert(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        over.wait(30)
        raise ImageDamaged

    monkeypatch.setattr(transform, 'to_jpeg', convert)

    async def scenario(conductor: ASGIConductor) -> None:
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

    serve(create_app(config), scenario)
