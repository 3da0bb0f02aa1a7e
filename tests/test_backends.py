"""What a client sees is the same on every storage and index.

PostgreSQL is a real one; object stores are moto and SeaweedFS, over loopback.
"""

from __future__ import annotations

import copy
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config, ConfigError
from asgilook.index.factory import make_index
from asgilook.storage.factory import make_storage

from . import backends, samples
from .conftest import Json, problem
from .servers import run

TOKEN = {'Authorization': 'Bearer s3cret'}

COMBINATIONS = [
    ('folder', 'memory'),
    ('folder', 'sqlite'),
    ('folder', 'postgresql'),
    ('moto', 'sqlite'),
    ('seaweedfs', 'postgresql'),
]


@pytest.fixture(params=COMBINATIONS, ids='-'.join)
def machine(request: pytest.FixtureRequest, config: Config, tmp_path: Path) -> Any:
    """Return a function that makes the settings of one more machine."""
    storage, index = request.param
    config.api_token = 's3cret'
    if storage == 'folder':
        config.storage_url = f'file://{tmp_path}/shared'
    else:
        config.storage_url = request.getfixturevalue(f'{storage}_bucket')
    if index != 'memory':
        config.database_url = request.getfixturevalue(index)

    def make(number: int) -> Config:
        other = copy.copy(config)
        other.storage_path = str(tmp_path / f'machine{number}')
        return other

    return make


@pytest.fixture
def client(machine: Any) -> TestClient:
    return TestClient(create_app(machine(1)))


@pytest.fixture
def other(machine: Any) -> TestClient:
    """Return a client of a second machine, with caches of its own."""
    config = machine(2)
    config.redis_host = None
    return TestClient(create_app(config))


def post(client: TestClient, body: bytes) -> Json:
    result = client.simulate_post('/images', body=body, headers=TOKEN)
    assert result.status_code == 201, result.text
    return dict(result.json)


def uris(image: Json) -> list[str]:
    return [image['image'], *image['thumbnails']]


def test_upload(client: TestClient, photo: bytes) -> None:
    image = post(client, photo)
    assert client.simulate_get('/images').json == [image]
    stored = client.simulate_get(image['image'])
    assert samples.decode(stored.content).tobytes() == samples.decode(photo).tobytes()
    assert len(image['thumbnails']) == 2
    for uri in image['thumbnails']:
        size = uri.rpartition('/')[2].removesuffix('.jpeg')
        thumbnail = samples.decode(client.simulate_get(uri).content)
        assert f'{thumbnail.width}x{thumbnail.height}' == size
    for uri in uris(image):
        first, again = (client.simulate_get(uri) for _ in range(2))
        assert again.headers['X-ASGILook-Cache'] == 'Hit'
        assert again.content == first.content
        head = client.simulate_head(uri)
        assert head.headers['ETag'] == first.headers['ETag']
        etag = {'If-None-Match': first.headers['ETag']}
        assert client.simulate_get(uri, headers=etag).status_code == 304


def test_rejected_upload_leaves_nothing(client: TestClient, photo: bytes) -> None:
    for body, status in ((b'', 400), (b'garbage', 415), (photo[:-50], 422)):
        problem(client.simulate_post('/images', body=body, headers=TOKEN), status)
    assert client.simulate_get('/images').json == []


def test_pages(client: TestClient) -> None:
    images = [post(client, samples.photo(100 + n, 80)) for n in range(5)]
    assert client.simulate_get('/images').json == images
    seen, uri = [], '/images?limit=2'
    while uri:
        page = client.simulate_get(uri)
        seen.append(page.json)
        uri = page.headers.get('Link', '').partition('>')[0].lstrip('<')
    assert seen == [images[:2], images[2:4], images[4:]]
    missing = client.simulate_get('/images?after=0a0b0c0d-0000-4000-8000-000000000001')
    problem(missing, 400)


def test_etag_of_the_list_follows_it(client: TestClient, photo: bytes) -> None:
    etags = []
    for _ in range(3):
        answer = client.simulate_get('/images')
        etag = answer.headers['ETag']
        headers = {'If-None-Match': etag}
        assert client.simulate_get('/images', headers=headers).status_code == 304
        etags.append(etag)
        post(client, photo)
        assert client.simulate_get('/images', headers=headers).status_code == 200
    assert len(set(etags)) == 3


@pytest.mark.parametrize('cache_body_size', [1024**2, 0])
def test_ranges(machine: Any, cache_body_size: int) -> None:
    """From a whole body, and from a stream."""
    config = machine(1)
    config.cache_body_size = cache_body_size
    client = TestClient(create_app(config))
    uri = post(client, samples.photo(900, 600))['image']
    whole = client.simulate_get(uri)
    content = whole.content
    assert len(content) > 10_000
    for value, part in (
        ('bytes=0-9', content[:10]),
        ('bytes=5000-', content[5000:]),
        ('bytes=-7', content[-7:]),
        (f'bytes=10-{len(content) + 5}', content[10:]),
    ):
        answer = client.simulate_get(uri, headers={'Range': value})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers['ETag'] == whole.headers['ETag']
    beyond = {'Range': f'bytes={len(content)}-'}
    assert client.simulate_get(uri, headers=beyond).status_code == 416


def test_delete(client: TestClient, photo: bytes) -> None:
    kept, gone = post(client, photo), post(client, photo)
    for uri in uris(gone) + uris(kept):
        assert client.simulate_get(uri).status_code == 200
    assert client.simulate_delete(gone['image'], headers=TOKEN).status_code == 204
    problem(client.simulate_delete(gone['image'], headers=TOKEN), 404)
    for uri in uris(gone):
        problem(client.simulate_get(uri), 404)
    assert client.simulate_get('/images').json == [kept]
    for uri in uris(kept):
        assert client.simulate_get(uri).status_code == 200


def test_delete_without_its_file(
    config: Config, sqlite: str, photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The database states which images exist, even if a file is missing."""
    config.api_token, config.database_url = 's3cret', sqlite
    client = TestClient(create_app(config))
    image = post(client, photo)
    Path(config.storage_path, image['id']).unlink()
    assert (
        client.simulate_delete(image['image'], headers=TOKEN).status_code,
        client.simulate_get('/images').json,
        f'deleted {image["id"]}, but not its file' in caplog.text,
    ) == (204, [], True)


def test_machines_agree(client: TestClient, other: TestClient) -> None:
    images: list[Json] = []
    for number in range(4):
        writer, reader = (client, other) if number % 2 else (other, client)
        images.append(post(writer, samples.photo(200 + number, 150)))
        assert reader.simulate_get('/images').json == images
        for uri in uris(images[-1]):
            contents = [one.simulate_get(uri).content for one in (reader, writer)]
            assert contents[0] == contents[1] != b''
    lists = [one.simulate_get('/images').headers['ETag'] for one in (client, other)]
    assert lists[0] == lists[1]
    while images:
        gone = images.pop()
        assert other.simulate_delete(gone['image'], headers=TOKEN).status_code == 204
        for uri in uris(gone):
            problem(client.simulate_get(uri), 404)
        assert client.simulate_get('/images').json == images


def test_repeated_id(machine: Any) -> None:
    """A database keeps the first image; without one, the last file is kept."""
    config = machine(1)
    config.uuid_generator = lambda: uuid.UUID(int=1)
    client = TestClient(create_app(config))
    first = post(client, samples.photo(200, 150))
    again = client.simulate_post('/images', body=samples.photo(100, 80), headers=TOKEN)
    if config.database_url is None:
        assert again.status_code == 201
    else:
        problem(again, 503)
    expected = again.json if config.database_url is None else first
    assert client.simulate_get('/images').json == [expected]
    shown = samples.decode(client.simulate_get(expected['image']).content)
    assert list(shown.size) == expected['size']


def test_restart_keeps_all(machine: Any, client: TestClient, photo: bytes) -> None:
    image = post(client, photo)
    before = {uri: client.simulate_get(uri) for uri in ('/images', *uris(image))}
    config = machine(3)
    config.redis_host = None
    restarted = TestClient(create_app(config))
    for uri, expected in before.items():
        answer = restarted.simulate_get(uri)
        assert answer.content == expected.content
        assert answer.headers['ETag'] == expected.headers['ETag']


def test_ready(machine: Any) -> None:
    config = machine(1)
    answer = TestClient(create_app(config)).simulate_get('/healthz/ready')
    parts = {'storage': 'up', 'redis': 'up'}
    if config.database_url is not None:
        parts['database'] = 'up'
    assert answer.json == {'state': 'ready', **parts}


def test_nothing_is_left_in_the_folder_of_a_machine(machine: Any, photo: bytes) -> None:
    config = machine(1)
    client = TestClient(create_app(config))
    image = post(client, photo)
    for uri in uris(image):
        client.simulate_get(uri)
    folder = Path(config.storage_path)
    assert not folder.exists() or list(folder.iterdir()) == []


# Settings that don't go together


def test_bucket_needs_a_database(config: Config) -> None:
    config.storage_url = 's3://images?access_key_id=a&secret_access_key=s3cret'
    with pytest.raises(ConfigError) as raised:
        create_app(config)
    message = str(raised.value)
    assert message.startswith("ASGI_LOOK_STORAGE_URL='s3://images?")
    assert 'ASGI_LOOK_DATABASE_URL' in message
    assert 's3cret' not in message


@pytest.mark.parametrize(
    ('make', 'module', 'name', 'extra'),
    [
        (make_index, 'index.database', 'DATABASE_URL', 'database'),
        (make_storage, 'storage.s3', 'STORAGE_URL', 's3'),
    ],
)
def test_extra_that_is_missing(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Config], object],
    module: str,
    name: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, f'asgilook.{module}', None)
    config.database_url = 'postgresql://ada:s3cret@127.0.0.1/db'
    config.storage_url = 's3://images'
    with pytest.raises(ConfigError) as raised:
        make(config)
    message = str(raised.value)
    assert message.startswith(f'ASGI_LOOK_{name}=')
    assert f": run pip install '.[{extra}]' in" in message
    assert 's3cret' not in message


@pytest.mark.parametrize('package', ['sqlalchemy', 'asyncpg', 'aiosqlite', 'obstore'])
def test_package_that_is_missing_stops_the_start(tmp_path: Path, package: str) -> None:
    code = (
        f'import sys; sys.modules[{package!r}] = None; '
        'from asgilook.__main__ import main; sys.exit(main([]))'
    )
    settings = {
        'storage_path': tmp_path / 'images',
        'storage_url': 's3://images',
        'database_url': f'sqlite://{tmp_path}/index.db',
    }
    ended = run('-c', code, **settings)
    extra = 's3' if package == 'obstore' else 'database'
    assert (ended.returncode, ended.stdout) == (2, '')
    (line,) = ended.stderr.splitlines()
    assert f": needs {package}: run pip install '.[{extra}]' in" in line


def test_extras_are_imported_only_if_needed(tmp_path: Path) -> None:
    code = (
        'import sys; import asgilook.asgi; '
        "print({'sqlalchemy', 'asyncpg', 'aiosqlite', 'obstore'} & {*sys.modules})"
    )
    assert run('-c', code, storage_path=tmp_path / 'images').stdout == 'set()\n'


# What the tests need


@pytest.mark.parametrize(
    ('ci', 'outcome'), [('true', pytest.fail.Exception), ('', pytest.skip.Exception)]
)
def test_missing_postgresql_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv('CI', ci)
    monkeypatch.setattr(backends, 'POSTGRES', 'postgresql://postgres@127.0.0.1:1')
    with pytest.raises(outcome, match='no PostgreSQL'):
        backends.database().__enter__()
