"""Real services whose object store, a SeaweedFS, fails, freezes, or is slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from . import samples
from .object_stores import SeaweedFS, behind, create_bucket, name_of, remove_bucket
from .proxy import Proxy
from .servers import Answer, Server, paused, run, until
from .test_machines import TOKEN, Clients, check, clients, uris

pytestmark = pytest.mark.integration

PHOTO = samples.photo(1600, 1200)

# For outages that last until the service has noticed them.
SHORT = {'storage.s3.TIMEOUT': 1.5, 'storage.s3_client.RETRY_INTERVAL': 0.5}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {'database_url': f'sqlite://{tmp_path}/index.db', 'api_token': 's3cret'}


def ready(server: Server) -> int:
    answer = server.get('/healthz/ready')
    assert answer.json['storage'] == ('up' if answer.status == 200 else 'down')
    return answer.status


def check_rejected(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.is_problem
    assert answer.headers['Retry-After']


def check_outage(server: Server, cached: Any, uncached: Any) -> None:
    """Check the responses of a service that can't use its object store."""
    check_rejected(server.ask('POST', '/images', PHOTO, **TOKEN))
    for uri in uris(uncached):
        check_rejected(server.get(uri))
    for uri in uris(cached):
        hit = server.get(uri)
        assert (hit.status, hit.hit) == (200, True)
        assert server.get(uri, If_None_Match=hit.headers['ETag']).status == 304
    assert server.images()[:2] == [cached, uncached]
    assert ready(server) == 503


def upload_two(server: Server) -> tuple[Any, Any]:
    """Upload two images; return the JSON of one in the cache, and of another."""
    cached, uncached = (server.upload(PHOTO, **TOKEN) for _ in range(2))
    for uri in uris(cached):
        assert server.get(uri).status == 200
    return cached, uncached


def wait_until_shed(load: Clients) -> None:
    """Wait until further requests of a load get 503."""
    shed = load.answers[503]
    until(lambda: load.answers[503] > shed)


def outages(server: Server) -> list[str]:
    return [line for line in server.log.splitlines() if 'object store' in line]


def check_consistent(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Check that all listed images are stored."""
    done = run('-m', 'asgilook', 'check', storage_path=tmp_path, **settings)
    assert ' 0 with a missing or wrong file' in done.stdout, done


def test_store_killed_under_load(tmp_path: Path, settings: dict[str, Any]) -> None:
    with ExitStack() as started:
        store = started.enter_context(SeaweedFS(tmp_path))
        bucket = create_bucket(store)
        settings['storage_url'] = bucket
        server = started.enter_context(Server(tmp_path, limits=SHORT, **settings))
        with clients(server) as (load,):
            load.wait(5)
            store.kill()
            wait_until_shed(load)
            assert ready(server) == 503
            started.enter_context(SeaweedFS(tmp_path, store.ports))
            load.wait(5)
            until(lambda: ready(server) == 200)
        assert set(load.answers) == {200, 201, 503}
        check(server, [load])
    check_consistent(tmp_path, settings)


@pytest.fixture
def on_bucket(seaweedfs_bucket: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `machine`."""
    return {'storage_url': seaweedfs_bucket, **settings}


@pytest.fixture
def machine(tmp_path: Path, on_bucket: dict[str, Any]) -> Iterator[Server]:
    """Return a service on a bucket."""
    with Server(tmp_path, limits=SHORT, **on_bucket) as server:
        yield server


def test_store_frozen_under_load(
    tmp_path: Path,
    machine: Server,
    seaweedfs: SeaweedFS,
    on_bucket: dict[str, Any],
) -> None:
    cached, uncached = upload_two(machine)
    with clients(machine) as (load,):
        for _ in range(2):
            load.wait(5)
            with paused(seaweedfs.pid):
                wait_until_shed(load)
                check_outage(machine, cached, uncached)
                wait_until_shed(load)
            until(lambda: ready(machine) == 200)
        load.wait(5)
    assert set(load.answers) == {200, 201, 503}
    check(machine, [load])
    check_consistent(tmp_path, on_bucket)


def test_deletion_while_the_store_is_frozen(
    tmp_path: Path,
    machine: Server,
    seaweedfs: SeaweedFS,
    on_bucket: dict[str, Any],
) -> None:
    """The database is the truth; what remains in the bucket can be removed."""
    kept, deleted = upload_two(machine)
    with paused(seaweedfs.pid):
        assert machine.ask('DELETE', deleted['image'], **TOKEN).status == 204
    until(lambda: ready(machine) == 200)
    assert machine.images() == [kept]
    assert [machine.get(uri).status for uri in uris(deleted)] == [404] * 5
    options = ('--younger', '0', '--remove-orphans')
    done = run('-m', 'asgilook', 'check', *options, storage_path=tmp_path, **on_bucket)
    assert '1 files not listed, 1 of them removed\n' in done.stdout, done
    assert '1 previews without an image, 1 removed\n' in done.stdout
    assert machine.get(kept['image']).status == 200


def test_bucket_removed(
    machine: Server, seaweedfs: SeaweedFS, seaweedfs_bucket: str
) -> None:
    cached, uncached = upload_two(machine)
    remove_bucket(seaweedfs, seaweedfs_bucket)
    for _ in range(2):
        check_outage(machine, cached, uncached)
    (line,) = outages(machine)
    assert 'object store unavailable' in line
    assert line.endswith('NoSuchBucket')
    seaweedfs.client.create_bucket(Bucket=name_of(seaweedfs_bucket))
    until(lambda: ready(machine) == 200)
    machine.upload(PHOTO, **TOKEN)
    assert machine.get(uncached['image']).status == 404
    assert outages(machine)[1].endswith('object store available again')


@pytest.mark.parametrize(
    ('delay', 'limits'), [(0.1, {'storage.s3.TIMEOUT': 20}), (30, SHORT)]
)
def test_slow_store(
    tmp_path: Path,
    seaweedfs: SeaweedFS,
    seaweedfs_bucket: str,
    settings: dict[str, Any],
    delay: float,
    limits: dict[str, float],
) -> None:
    """Each chunk is late by less than the timeout, or by more."""
    with Proxy(seaweedfs.port) as proxy:
        bucket = behind(proxy, seaweedfs_bucket)
        settings['storage_url'] = bucket
        with Server(tmp_path, limits=limits, **settings) as server:
            cached, uncached = upload_two(server)
            proxy.delay = delay
            if delay < limits['storage.s3.TIMEOUT']:
                for uri in uris(server.upload(PHOTO, **TOKEN)) + uris(uncached):
                    assert server.get(uri).status == 200
                assert outages(server) == []
            else:
                check_outage(server, cached, uncached)
                assert len(outages(server)) == 1
            proxy.delay = 0
            until(lambda: ready(server) == 200)
            for uri in uris(uncached):
                assert server.get(uri).status == 200
