"""Fixtures: the service on an empty folder, with a Redis inside this process."""

from __future__ import annotations

import asyncio
import builtins
import errno
import logging
import os
import re
import resource
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import falcon.testing
import hypothesis
import pytest
from falcon.testing import Result, TestClient
from PIL import Image

from asgilook.app import create_app
from asgilook.config import Config

from . import backends, falcon_testing, redis_in_process, samples
from .databases import Database, PostgreSQL, SQLite
from .object_stores import Moto, ObjectStore, SeaweedFS, new_bucket
from .redis_in_process import RedisServer as RedisServer
from .servers import LONG_LIMITS

T = TypeVar('T')
Json = dict[str, Any]
Upload = Callable[..., Json]

FILE_SIZE = 4000


def pytest_configure() -> None:
    """Quieten asyncio, and make hypothesis repeatable and Falcon's client fast.

    asyncio's debug mode would log that a busy machine is slow. `pytest
    --hypothesis-profile=random` tries other examples at each run.
    """
    logging.getLogger('asyncio').setLevel(logging.ERROR)
    hypothesis.settings.register_profile(
        'repeatable', derandomize=True, deadline=None, max_examples=50
    )
    hypothesis.settings.register_profile('random', deadline=None, max_examples=50)
    hypothesis.settings.load_profile('repeatable')
    falcon_testing.sleep_while_waiting()


# Fixtures that start a server, or need one that runs.
_INTEGRATION_FIXTURES = {
    'bucket',
    'database',
    'moto',
    'postgresql',
    'postgresql_db',
    's3',
    'seaweedfs',
}


# An object store is slow to start: with `--dist loadgroup`, only one worker has any.
_OBJECT_STORES = {'bucket', 'moto', 'moto_bucket', 's3', 'seaweedfs_bucket'}


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers: half of the time, tests wait for a server."""
    return len(os.sched_getaffinity(0)) + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a server by the fixtures that they use."""
    for item in items:
        needed = set(getattr(item, 'fixturenames', ()))
        callspec = getattr(item, 'callspec', None)
        if callspec is not None:
            for value in callspec.params.values():
                if not isinstance(value, bytes):  # which take long to show
                    needed.update(re.findall(r'\w+', str(value)))
        if needed & _INTEGRATION_FIXTURES:
            item.add_marker('integration')
        if needed & _OBJECT_STORES:
            item.add_marker(pytest.mark.xdist_group('s3'))


async def no_redis(address: Any) -> None:
    """Stand for `create_redis_pool` where there is no Redis."""
    return


async def until(condition: Callable[[], object]) -> None:
    """Wait for what has no event to wait for."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def files(config: Config) -> set[str]:
    """Return the names of all files in the storage folder."""
    return set(os.listdir(config.storage_path))


def open_files(path: Path) -> int:
    """Count the open files of this process at a path, or below it."""
    paths = [os.path.realpath(entry) for entry in Path('/proc/self/fd').iterdir()]
    return sum(opened.startswith(str(path)) for opened in paths)


def problem(result: Result, status: int) -> str:
    """Check that the answer is a problem of this status; return its detail."""
    assert result.status_code == status, result.text
    assert result.headers['content-type'] == 'application/problem+json'
    assert result.headers['cache-control'] == 'no-store'
    assert result.json['status'] == status
    return str(result.json.get('detail'))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the service has logged, as `LEVEL message`."""
    return [
        f'{record.levelname} {record.getMessage()}'
        for record in caplog.records
        if record.name.startswith('asgilook')
    ]


@pytest.fixture(scope='session')
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio."""
    return 'asyncio'


@pytest.fixture(scope='session')
def redis_server() -> Iterator[RedisServer]:
    """Start a server once, as that is slow."""
    server = redis_in_process.start()
    yield server
    server.close()


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """Return the Redis of `config`, empty."""
    redis_server.reset()
    return redis_server


@pytest.fixture
def redis_engine(redis: RedisServer) -> RedisServer:
    """Return the Redis of `config` for a test of what fakeredis leaves out."""
    if not redis_in_process.HAS_BIRDISLE:
        pytest.skip('birdisle is not installed')
    return redis


@pytest.fixture(scope='session')
def database() -> Iterator[str]:
    """Return the URL of an empty database of PostgreSQL."""
    with backends.database() as url:
        yield url


@pytest.fixture
def postgresql(database: str) -> Iterator[str]:
    """Return the URL of an empty schema of PostgreSQL."""
    with backends.schema(database) as url:
        yield url


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Return the URL of a file for SQLite that is still to be made."""
    return f'sqlite://{tmp_path}/index.db'


@pytest.fixture
def sqlite_db(sqlite: str) -> SQLite:
    """Return what asks that file past the service."""
    return SQLite(sqlite)


@pytest.fixture
def postgresql_db(postgresql: str) -> PostgreSQL:
    """Return what asks that schema past the service."""
    return PostgreSQL(postgresql)


@pytest.fixture(params=['sqlite', 'postgresql'])
def db(request: pytest.FixtureRequest) -> Database:
    """Return an empty database of either kind."""
    found: Database = request.getfixturevalue(f'{request.param}_db')
    return found


@pytest.fixture(scope='session')
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """Start moto's server once, as that is slow."""
    with Moto(tmp_path_factory.mktemp('moto')) as server:
        yield server


@pytest.fixture(scope='session')
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """Start a SeaweedFS once, as that takes seconds."""
    with SeaweedFS(tmp_path_factory.mktemp('seaweedfs')) as server:
        yield server


@pytest.fixture
def moto_bucket(moto: Moto) -> Iterator[str]:
    """Return the URL of an empty bucket of moto."""
    with new_bucket(moto) as url:
        yield url


@pytest.fixture
def seaweedfs_bucket(seaweedfs: SeaweedFS) -> Iterator[str]:
    """Return the URL of an empty bucket of SeaweedFS."""
    with new_bucket(seaweedfs) as url:
        yield url


@pytest.fixture(params=['moto', 'seaweedfs'])
def s3(request: pytest.FixtureRequest) -> ObjectStore:
    """Return an object store of either kind."""
    found: ObjectStore = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket(s3: ObjectStore) -> Iterator[str]:
    """Return the URL of an empty bucket of either object store."""
    with new_bucket(s3) as url:
        yield url


@pytest.fixture(autouse=True)
def pillow_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the limit of Pillow, which every app sets for its process."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)


@pytest.fixture(autouse=True)
def usual_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs compete with the other processes of a busy machine, as tests wait."""
    monkeypatch.setattr('asgilook.concurrency.NICENESS', 0)


@pytest.fixture(autouse=True)
def long_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no busy machine exceed a time limit; tests of a limit set their own."""
    for name, seconds in LONG_LIMITS.items():
        monkeypatch.setattr(f'asgilook.{name}', float(seconds))


@pytest.fixture
def config(tmp_path: Path, redis: RedisServer) -> Config:
    """Return the settings of `client`, free to change before it is used."""
    config = Config({})
    config.storage_path = str(tmp_path / 'images')
    config.create_redis_pool = redis.create_pool
    config.redis_host = redis.address
    config.redis_timeout = 10
    return config


@pytest.fixture
def predictable_uuid() -> Callable[[], uuid.UUID]:
    """Return a generator of the UUIDs 1, 2, 3 and so on."""
    numbers = iter(range(1, 1000))
    return lambda: uuid.UUID(int=next(numbers))


@pytest.fixture
def client(config: Config) -> TestClient:
    """Return a client of a service on `config`."""
    return falcon.testing.TestClient(create_app(config))


@pytest.fixture(scope='session')
def photo() -> bytes:
    """Return a JPEG of 512 x 256 pixels."""
    return samples.photo(512, 256)


@pytest.fixture
def upload(client: TestClient, photo: bytes) -> Upload:
    """Return a function that uploads a picture, and returns the image's JSON."""

    def upload(body: bytes = photo) -> Json:
        result = client.simulate_post('/images', body=body)
        assert result.status_code == 201, result.text
        return dict(result.json)

    return upload


def place(config: Config, body: bytes, number: int = 1) -> Json:
    """Leave an image in the folder, as another process would; return its JSON."""
    image_id = f'0a0b0c0d-0000-4000-8000-{number:012x}'
    path = Path(config.storage_path, image_id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (10**9 + number, 10**9 + number))
    width, height = samples.decode(body).size
    halves = [(width >> k, height >> k) for k in range(1, 16)]
    return {
        'id': image_id,
        'image': f'/images/{image_id}.jpeg',
        'modified': f'Sun, 09 Sep 2001 01:46:{40 + number:02} GMT',
        'size': [width, height],
        'thumbnails': [
            f'/thumbnails/{image_id}/{width}x{height}.jpeg'
            for width, height in halves
            if min(width, height) >= 64
        ],
    }


@pytest.fixture
def image(config: Config, photo: bytes) -> Json:
    """Return the JSON of an image that is there, with thumbnails 256x128 and 128x64."""
    return place(config, photo)


@pytest.fixture
def permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enforce the read permission of files, which root doesn't need."""

    def is_readable(path: Any) -> bool:
        try:
            return bool(os.stat(path).st_mode & stat.S_IRUSR)
        except OSError:
            return True

    def checked_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_readable(file):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
        return original_open(file, *args, **kwargs)

    def checked_access(path: Any, mode: int) -> bool:
        return original_access(path, mode) and is_readable(path)

    original_open, original_access = builtins.open, os.access
    monkeypatch.setattr(builtins, 'open', checked_open)
    monkeypatch.setattr(os, 'access', checked_access)


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """Let no file of this process grow past `FILE_SIZE` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
