"""Several services that share a real PostgreSQL, a real Redis, and a bucket.

Each has its own storage folder, as on a separate machine; the bucket is in SeaweedFS.
"""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asgilook.events.relay import CHANNEL

from . import samples
from .databases import PostgreSQL
from .object_stores import SeaweedFS, behind
from .proxy import Proxy
from .servers import HOST, LONG_LIMITS, RedisServer, Server, until

pytestmark = pytest.mark.integration

TOKEN = {'Authorization': 'Bearer s3cret'}

# Maximum number of connections of a service to the database.
CONNECTIONS = 5

Start = Callable[..., Server]


@pytest.fixture
def db(postgresql: str) -> PostgreSQL:
    return PostgreSQL(postgresql)


@pytest.fixture
def shared_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def start(
    tmp_path: Path, db: PostgreSQL, seaweedfs_bucket: str, shared_redis: RedisServer
) -> Iterator[Start]:
    """Return a function that starts one more machine."""
    with ExitStack() as machines:
        numbers = itertools.count()

        def start(**settings: Any) -> Server:
            folder = tmp_path / f'machine{next(numbers)}'
            folder.mkdir()
            shared: dict[str, Any] = {
                'database_url': db.url,
                'storage_url': seaweedfs_bucket,
                'redis_host': shared_redis.url,
                'redis_timeout': 10,
                'api_token': 's3cret',
                **settings,
            }
            server = Server(folder, limits=LONG_LIMITS, **shared)
            return machines.enter_context(server)

        yield start


def uris(image: Any) -> list[str]:
    return [image['image'], *image['thumbnails']]


@contextmanager
def listening(server: Server) -> Iterator[Callable[[str, str], None]]:
    """Listen to events; yield a function that waits for one by its type and image."""
    with socket.create_connection((HOST, server.port), timeout=60) as client:
        client.sendall(f'GET /events HTTP/1.1\r\nHost: {HOST}\r\n\r\n'.encode())
        received = b''
        while b'\r\n\r\n' not in received:
            received += client.recv(65536)

        def wait(kind: str, image_id: str) -> None:
            event = re.compile(f'event: {kind}\nid: .*\ndata: [^\n]*{image_id}')

            def is_heard() -> bool:
                nonlocal received
                if event.search(received.decode()):
                    return True
                received += client.recv(65536)
                return False

            until(is_heard)

        yield wait


def test_machines_share_everything(start: Start) -> None:
    one, two, three = start(), start(), start()
    with listening(three) as wait:
        image = one.upload(samples.photo(300, 200), **TOKEN)
        wait('image', image['id'])
        for machine in (two, three, one):
            assert machine.images() == [image]
            hits = [machine.get(uri).hit for uri in uris(image)]
            assert hits == [machine is not two] * len(hits)
        assert len({machine.get('/images').body for machine in (one, two, three)}) == 1
        for uri in uris(image):
            assert len({machine.get(uri).body for machine in (one, two, three)}) == 1

        assert two.ask('DELETE', image['image'], **TOKEN).status == 204
        wait('deleted', image['id'])
        for machine in (one, two, three):
            assert [machine.get(uri).status for uri in uris(image)] == [404, 404]
            assert machine.images() == []
            assert machine.files == []


class Clients:
    """Clients of one service; each uploads images and requests them."""

    def __init__(self, server: Server, count: int = 2) -> None:
        self.answers: Counter[Any] = Counter()
        self.stored: list[str] = []
        self._server = server
        self._over = threading.Event()
        self._executor = ThreadPoolExecutor(count)
        self._futures = [self._executor.submit(self._work) for _ in range(count)]

    def stop(self) -> None:
        self._over.set()
        for future in self._futures:
            future.result()
        self._executor.shutdown()

    def wait(self, count: int) -> None:
        """Wait for `count` more uploads."""
        target = len(self.stored) + count
        until(lambda: len(self.stored) >= target)

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                self._use()
            except OSError as ex:
                self.answers[type(ex)] += 1
                self._over.wait(0.05)

    def _use(self) -> None:
        answer = self._server.ask('POST', '/images', _PHOTO, **TOKEN)
        self.answers[answer.status] += 1
        if answer.status != 201:
            assert answer.is_problem
            assert answer.headers['Retry-After']
            return
        self.stored.append(answer.json['id'])
        for uri in ('/images?limit=1', *uris(answer.json)):
            self.answers[self._server.get(uri).status] += 1


_PHOTO = samples.photo(200, 150)


@contextmanager
def clients(*servers: Server) -> Iterator[list[Clients]]:
    working = [Clients(server) for server in servers]
    try:
        yield working
    finally:
        for group in working:
            group.stop()


def check(server: Server, working: list[Clients]) -> None:
    """Check that all acknowledged images are listed and readable."""
    listed = {image['id'] for image in server.images()}
    assert listed >= {image_id for group in working for image_id in group.stored}
    for image_id in listed:
        assert server.get(f'/images/{image_id}.jpeg').status == 200


def test_machine_that_is_killed_under_load(start: Start) -> None:
    one, two, three = start(), start(), start()
    with clients(one, two, three) as working:
        for group in working:
            group.wait(5)
        one.kill()
        working[2].wait(5)
        two.stop()
        working[2].wait(5)
    assert set(working[2].answers) == {200, 201}
    check(three, working)
    check(start(), working)
    assert [machine.files for machine in (one, two, three)] == [[], [], []]


def test_database_that_ends_all_connections_under_load(
    start: Start, db: PostgreSQL
) -> None:
    one, two = start(), start()
    with clients(one, two) as working:
        for _ in range(3):
            for group in working:
                group.wait(3)
            ((ended,),) = db.execute(
                'SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity '
                "WHERE datname = current_database() AND application_name = 'asgilook'"
            )
            assert ended
        for group in working:
            group.wait(3)
    assert all(set(group.answers) == {200, 201} for group in working)
    check(one, working)
    until(lambda: 0 < db.connections() <= 2 * CONNECTIONS)
    assert [one.stop(), two.stop()]
    until(lambda: db.connections() == 0)


def test_database_that_is_unavailable_under_load(start: Start, db: PostgreSQL) -> None:
    with Proxy(db.port) as proxy:
        machine = start(database_url=db.at(proxy.port))
        seen = machine.upload(_PHOTO, **TOKEN)
        with clients(machine) as working:
            working[0].wait(3)
            proxy.cut()
            until(lambda: working[0].answers[503])
            assert [machine.get(uri).status for uri in uris(seen)] == [200, 200]
            unlisted = machine.get('/images')
            assert unlisted.is_problem
            assert unlisted.headers['Retry-After'] == '1'
            ready = machine.get('/healthz/ready')
            assert (ready.status, ready.json['database']) == (503, 'down')
            proxy.restore()
            working[0].wait(3)
        assert set(working[0].answers) == {200, 201, 503}
        check(machine, working)
        assert machine.get('/healthz/ready').json['database'] == 'up'
        until(lambda: db.connections() <= CONNECTIONS)


def test_redis_that_is_unavailable_under_load(
    start: Start, shared_redis: RedisServer, tmp_path: Path
) -> None:
    one, two = start(), start()
    with clients(one, two) as working:
        for group in working:
            group.wait(3)
        shared_redis.kill()
        for group in working:
            group.wait(3)
        with RedisServer(tmp_path, shared_redis.port) as server:
            for machine in (one, two):
                state = partial(machine.get, '/healthz/ready')
                until(lambda: state().json['redis'] == 'up')  # noqa: B023
            until(lambda: server.command('PUBSUB', 'NUMSUB', CHANNEL)[1] == 2)
            with listening(two) as wait:
                wait('image', one.upload(_PHOTO, **TOKEN)['id'])
    assert all(set(group.answers) == {200, 201} for group in working)
    check(two, working)


def test_store_that_is_unavailable(
    start: Start, seaweedfs: SeaweedFS, seaweedfs_bucket: str
) -> None:
    with Proxy(seaweedfs.port) as proxy:
        machine = start(storage_url=behind(proxy, seaweedfs_bucket))
        seen = machine.upload(_PHOTO, **TOKEN)
        for uri in uris(seen) * 2:
            assert machine.get(uri).status == 200
        proxy.cut()
        rejected = machine.ask('POST', '/images', _PHOTO, **TOKEN)
        assert rejected.status == 503
        assert rejected.is_problem
        assert all(machine.get(uri).hit for uri in uris(seen))
        ready = machine.get('/healthz/ready')
        assert (ready.status, ready.json['storage']) == (503, 'down')
        proxy.restore()
        until(lambda: machine.get('/healthz/ready').status == 200)
        assert machine.images() == [seen]
        machine.upload(_PHOTO, **TOKEN)
        assert machine.files == []


def test_machines_agree_without_redis(start: Start) -> None:
    one, two = start(redis_host='none'), start(redis_host='none')
    image = one.upload(_PHOTO, **TOKEN)
    for uri in uris(image) * 2:
        assert two.get(uri).body == one.get(uri).body
    assert two.images() == [image]
    assert one.ask('DELETE', image['image'], **TOKEN).status == 204
    assert [two.get(uri).status for uri in uris(image)] == [404, 404]
    assert two.images() == []
