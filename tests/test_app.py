from __future__ import annotations

import asyncio
import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import falcon.asgi
import falcon.inspect
import pytest
import uvicorn.importer
from falcon.testing import ASGIConductor, TestClient

import asgilook
from asgilook.app import create_app
from asgilook.config import Config

from . import samples
from .conftest import files, until


def test_app_has_the_routes_of_the_contract(config: Config) -> None:
    router = create_app(config)._router
    routes = {
        route.path: {method.method for method in route.methods if not method.internal}
        for route in falcon.inspect.inspect_compiled_router(router)
    }
    reads = (
        '/',
        '/events',
        '/openapi.json',
        '/metrics',
        '/healthz/live',
        '/healthz/ready',
    )
    assert [uri for uri in reads if not {'GET', 'HEAD'} <= routes.pop(uri)] == []
    resources = {uri: routes[uri] for uri in routes if uri.startswith(('/i', '/t'))}
    assert resources == {
        '/images': {'GET', 'HEAD', 'POST'},
        '/images/{image_id:uuid}.jpeg': {'DELETE', 'GET', 'HEAD'},
        '/thumbnails/{image_id:uuid}/{size:size}.jpeg': {'GET', 'HEAD'},
        '/thumbnails/{image_id:uuid}/{size:size}.webp': {'GET', 'HEAD'},
    }


def test_app_is_a_falcon_app(config: Config) -> None:
    assert isinstance(create_app(config), falcon.asgi.App)


def test_app_without_config_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path / 'images'))
    monkeypatch.setenv('ASGI_LOOK_REDIS_HOST', 'none')
    app = create_app()
    assert not (tmp_path / 'images').exists()
    client = TestClient(app)
    image = client.simulate_post('/images', body=samples.photo(8, 8)).json
    assert os.listdir(tmp_path / 'images') == [image['id']]


def test_app_has_no_effect_before_its_start(config: Config) -> None:
    tries: list[Any] = []
    config.create_redis_pool = tries.append  # type: ignore[assignment]
    create_app(config)
    assert not os.path.exists(config.storage_path)
    assert tries == []


def test_apps_share_nothing(config: Config, tmp_path: Path, photo: bytes) -> None:
    first = TestClient(create_app(config))
    config.storage_path = str(tmp_path / 'second')
    second = TestClient(create_app(config))
    first.simulate_post('/images', body=photo)
    assert len(first.simulate_get('/images').json) == 1
    assert second.simulate_get('/images').json == []


def test_app_keeps_its_settings(config: Config, photo: bytes) -> None:
    client = TestClient(create_app(config))
    config.storage_path = '/nowhere'
    config.uuid_generator = lambda: 'x'  # type: ignore[assignment, return-value]
    assert client.simulate_get('/images').status_code == 200


def test_app_without_its_folder_is_unavailable(config: Config, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    config.storage_path = str(tmp_path / 'file' / 'images')
    client = TestClient(create_app(config))
    for uri in ('/images', '/healthz/ready'):
        assert client.simulate_get(uri).status_code == 503
    assert client.simulate_get('/healthz/live').status_code == 200


async def test_app_starts_again(config: Config, photo: bytes) -> None:
    app = create_app(config)

    for count in (1, 2, 3):
        async with ASGIConductor(app) as conductor:
            posted = await conductor.simulate_post('/images', body=photo)
            assert posted.status_code == 201
            got = await conductor.simulate_get(posted.json['thumbnails'][0])
            assert got.status_code == 200
            assert len((await conductor.simulate_get('/images')).json) == count
    assert len(files(config)) == 3


async def test_app_closes_all_files_and_connections(
    config: Config, photo: bytes
) -> None:
    async def use() -> None:
        async with ASGIConductor(create_app(config)) as conductor:
            image = (await conductor.simulate_post('/images', body=photo)).json
            uris = ('/images', image['image'], *image['thumbnails'], '/nothing')
            gets = (conductor.simulate_get(uri) for uri in uris)
            await asyncio.gather(*gets)
            await conductor.simulate_post('/images', body=photo[:-100])
            await conductor.simulate_post('/images', body=b'')

    def descriptors() -> int:
        return len(os.listdir('/proc/self/fd'))

    await use()
    before = descriptors()
    for _ in range(3):
        await use()
    # Redis, in this process, closes its side a little later.
    await until(lambda: descriptors() <= before)


def load_asgi(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import `asgilook.asgi` anew."""
    monkeypatch.delitem(sys.modules, 'asgilook.asgi', raising=False)
    monkeypatch.delattr(asgilook, 'asgi', raising=False)
    return importlib.import_module('asgilook.asgi')


def test_asgi_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path / 'images'))
    monkeypatch.setenv('ASGI_LOOK_REDIS_HOST', 'none')
    client = TestClient(load_asgi(monkeypatch).app)
    assert not (tmp_path / 'images').exists()
    assert client.simulate_get('/images').json == []


def test_asgi_module_with_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ASGI_LOOK_THREADS', 'many')
    with pytest.raises(SystemExit, match="ASGI_LOOK_THREADS='many'"):
        load_asgi(monkeypatch)


def test_command_of_the_tutorial_gets_a_hint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(uvicorn.importer.ImportFromStringError):
        uvicorn.importer.import_from_string('asgilook.app:app')
    (record,) = caplog.records
    assert record.levelname == 'ERROR'
    assert '`python -m asgilook`' in record.getMessage()
    assert '`uvicorn asgilook.asgi:app`' in record.getMessage()
    assert not hasattr(asgilook.app, 'other')
    assert len(caplog.records) == 1


def test_running_the_module_gets_a_hint() -> None:
    # runpy warns that the module is imported already.
    with (
        pytest.warns(RuntimeWarning, match='asgilook.app'),
        pytest.raises(SystemExit, match='run `python -m asgilook`'),
    ):
        runpy.run_module('asgilook.app', run_name='__main__')
