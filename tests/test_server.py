"""The complete service: real processes, sockets, signals and a real Redis."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import itertools
import logging
import os
import random
import re
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import samples
from tests.servers import (
    HOST,
    Answer,
    RedisServer,
    Server,
    paused,
    read_answer,
    require,
    run,
    until,
)

pytestmark = pytest.mark.integration

log = logging.getLogger(__name__)

CANONICAL_UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')

TOKEN = 'Bearer secret'

UNDER_UVICORN = ('uvicorn', 'asgilook.asgi:app')


def camera_jpeg(width: int, height: int) -> bytes:
    """Return a photo taken with the camera on its side; `width` is that of the file."""
    exif = Image.Exif()
    exif[0x010F] = 'Camera'
    exif[0x0112] = 6
    return samples.photo(width, height, exif=exif.tobytes())


def transparent_png(width: int, height: int) -> bytes:
    """Return a PNG: red on the left, fully transparent black on the right."""
    image = Image.new('RGBA', (width, height), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, width // 2, height))
    return samples.encode(image, 'PNG')


def decode(answer: Answer) -> Image.Image:
    """Check that a response is a JPEG; return the decoded image."""
    assert (answer.status, answer.headers['Content-Type']) == (200, 'image/jpeg')
    with Image.open(io.BytesIO(answer.body), formats=['JPEG']) as image:
        image.load()
        return image


def ids(images: list[dict[str, Any]]) -> list[str]:
    """Return the ids of images."""
    return [image['id'] for image in images]


def paths(image: dict[str, Any]) -> list[str]:
    """Return the paths of an image and of its thumbnails."""
    return [image['image'], *image['thumbnails']]


def check_session(server: Server) -> list[str]:
    """Upload, list, and get everything twice; return all paths."""
    photo = server.upload(camera_jpeg(800, 600))
    drawing = server.upload(transparent_png(400, 300))
    assert (photo['size'], drawing['size']) == ([600, 800], [400, 300])
    assert server.images() == [photo, drawing]

    for image in photo, drawing:
        for path in paths(image):
            first, second = server.get(path), server.get(path)
            size = decode(first).size
            assert list(size) == image['size'] or f'/{size[0]}x{size[1]}.' in path
            assert (first.hit, second.hit) == (False, True)
            assert first.body == second.body
    flat = decode(server.get(drawing['image']))
    red, white = flat.getpixel((50, 150)), flat.getpixel((350, 150))
    assert samples_are_near(red, (255, 0, 0))
    assert samples_are_near(white, (255, 255, 255))
    return [*paths(photo), *paths(drawing)]


def samples_are_near(pixel: Any, expected: tuple[int, int, int]) -> bool:
    """Return whether two colors look the same."""
    return all(abs(a - b) <= 4 for a, b in zip(pixel, expected, strict=True))


def test_server_without_redis(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        check_session(server)
        about_redis = server.log_lines('Redis')
        assert len(about_redis) == 1
        assert 'Redis unavailable at redis://127.0.0.1:1' in about_redis[0]


def test_server_with_redis(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as redis,
        Server(tmp_path, redis_host=redis.url, redis_timeout=10) as server,
    ):
        cached = [*check_session(server), '/images']
        assert server.get('/images').hit
        assert redis.keys == sorted(f'asgilook:{path}' for path in cached)

        settings: dict[str, Any] = {
            'redis_host': redis.url,
            'redis_timeout': 10,
            'cache_memory': 0,
        }
        with Server(tmp_path, **settings) as cold:
            for path in cached:
                answer = cold.get(path)
                assert answer.hit
                assert answer.body == server.get(path).body
        assert server.log_lines('Redis') == cold.log_lines('Redis') == []


class Traffic:
    """Clients that read and upload continuously, and keep every response."""

    def __init__(self, server: Server, image: dict[str, Any]) -> None:
        self._server = server
        self._watched = [image['image'], image['thumbnails'][0]]
        self._over = threading.Event()
        self.answers: list[Answer] = []

    @classmethod
    @contextmanager
    def under_way(cls, server: Server, image: dict[str, Any]) -> Iterator[Traffic]:
        """Run the clients; their errors are raised at the end."""
        traffic = cls(server, image)
        with ThreadPoolExecutor() as executor:
            tasks = [executor.submit(traffic._look), executor.submit(traffic._change)]
            try:
                yield traffic
            finally:
                traffic._over.set()
        for task in tasks:
            task.result()

    def _look(self) -> None:
        while not self._over.is_set():
            for path in self._watched:
                self._keep(self._server.get(path))

    def _change(self) -> None:
        """Upload and delete; the list must show it at once, in any state of Redis."""
        picture = samples.photo(64, 64)
        while not self._over.is_set():
            posted = self._server.ask('POST', '/images', picture, authorization=TOKEN)
            image_id, path = posted.json['id'], posted.json['image']
            self._keep(posted)
            for _ in range(2):
                images = self._keep(self._server.get('/images')).json
                assert ids(images)[-1] == image_id
            self._server.ask('DELETE', path, authorization=TOKEN)
            images = self._keep(self._server.get('/images')).json
            assert image_id not in ids(images)

    def _keep(self, answer: Answer) -> Answer:
        self.answers.append(answer)
        return answer

    def until_hits(self) -> None:
        """Wait until image or thumbnail and list are hits."""
        begun = len(self.answers) + 2  # without the requests that are under way
        until(lambda: self._hits(begun) >= {'image/jpeg', 'application/json'})

    def until_missed(self, count: int) -> None:
        """Wait until `count` responses in a row are no hits."""
        begun = len(self.answers)
        until(lambda: len(self.answers) >= begun + count and not self._hits(-count))

    def _hits(self, begin: int) -> set[str]:
        """Return the media types of the hits from a position on."""
        return {
            answer.headers['Content-Type']
            for answer in self.answers[begin:]
            if answer.status == 200 and answer.hit
        }


def test_server_redis_outages(tmp_path: Path) -> None:
    """Redis is stopped, started, frozen, continued, full and emptied."""
    with RedisServer(tmp_path) as redis:
        settings: dict[str, Any] = {
            'redis_host': redis.url,
            'cache_memory': 0,
            'api_token': 'secret',
        }
        with Server(tmp_path, **settings) as server:
            image = server.upload(samples.photo(320, 240), authorization=TOKEN)
            with Traffic.under_way(server, image) as traffic:
                traffic.until_hits()
                redis.stop()
                traffic.until_missed(50)

                with RedisServer(tmp_path, redis.port) as redis_again:
                    traffic.until_hits()
                    with paused(redis_again.pid):
                        traffic.until_missed(50)
                    traffic.until_hits()

                    redis_again.command('CONFIG SET maxmemory 1')
                    redis_again.command('FLUSHALL')
                    traffic.until_missed(50)
                    assert 'OOM' in str(redis_again.command('SET key value'))
                    redis_again.command('CONFIG SET maxmemory 0')
                    traffic.until_hits()

    # A busy machine may lose Redis once more, for a moment: that is a line, too.
    said = re.findall(
        'Redis unavailable|is available again|rejected a command', server.log
    )
    assert set(said) == {
        'Redis unavailable',
        'is available again',
        'rejected a command',
    }
    assert len(said) < 12
    assert {answer.status for answer in traffic.answers} == {200, 201}


def test_server_uvicorn(tmp_path: Path) -> None:
    with Server(tmp_path, program=UNDER_UVICORN) as server:
        image = server.upload(samples.photo(320, 240))
        assert server.images() == [image]
        assert decode(server.get(image['thumbnails'][0])).size == (160, 120)


def test_server_help() -> None:
    shown = run('-m', 'asgilook', '--help')
    assert (shown.returncode, shown.stderr) == (0, '')
    assert {'--host', '--port', '--workers'} <= set(
        re.findall('--[a-z]+', shown.stdout)
    )


def test_server_port_in_use(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        for workers in '1', '2':
            options = ['--port', port, '--workers', workers]
            ended = run('-m', 'asgilook', *options, storage_path=tmp_path)
            assert ended.returncode == 3
            (line,) = re.findall('ERROR.*', ended.stderr)
            assert f'port {port} of {HOST}: Address already in use' in line
            assert 'Traceback' not in ended.stderr


@pytest.mark.parametrize(
    ('program', 'settings', 'named'),
    [
        (['asgilook'], {'jpeg_quality': 101}, "ASGI_LOOK_JPEG_QUALITY='101'"),
        (['asgilook'], {'redis_host': 'me'}, "ASGI_LOOK_REDIS_HOST='me'"),
        (['asgilook'], {'storage': '/images'}, "ASGI_LOOK_STORAGE='/images'"),
        (['asgilook'], {'storage_path': __file__}, 'ASGI_LOOK_STORAGE_PATH='),
        (UNDER_UVICORN, {'jpeg_quality': 101}, "ASGI_LOOK_JPEG_QUALITY='101'"),
        (UNDER_UVICORN, {'storage': '/images'}, "ASGI_LOOK_STORAGE='/images'"),
    ],
    ids=['value', 'url', 'name', 'folder', 'value-uvicorn', 'name-uvicorn'],
)
def test_server_bad_setting(
    program: Sequence[str], settings: dict[str, Any], named: str
) -> None:
    ended = run('-m', *program, '--port', '0', **settings)
    assert ended.returncode != 0
    assert ended.stderr.count('\n') == 1
    assert named in ended.stderr


def test_server_startup_failure_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match='unknown setting'),
        Server(tmp_path, colour='blue'),
    ):
        pass  # pragma: no cover


@pytest.mark.parametrize(
    ('ci', 'outcome'), [('true', pytest.fail.Exception), ('', pytest.skip.Exception)]
)
def test_server_missing_program(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CI', ci)
    with pytest.raises(outcome, match='is not installed'):
        require('asgilook-is-no-such-program')


def cut_short(server: Server, framing: str, part: bytes) -> int:
    """Upload part of a body, then half-close; return the status, or 0 without one."""
    with server.uploading(framing, part) as client:
        client.shutdown(socket.SHUT_WR)
        answer = read_answer(client)
    assert answer is None or answer.is_problem
    return answer.status if answer else 0


GIF_BOMB = (
    b'GIF89a' + struct.pack('<HH', 13000, 13000) + b'\x80\0\0' + b'\0\0\0\xff\xff\xff'
    b',' + struct.pack('<HHHH', 0, 0, 13000, 13000) + b'\0' + b'\x02\x02\x44\x01\0;'
)


def test_server_rejected_uploads(tmp_path: Path) -> None:
    """They leave nothing: no file, no temporary file, no list entry, no key."""
    photo = samples.photo(300, 200)
    png = samples.png(300, 200)
    assert len(GIF_BOMB) == 35
    rejected = [
        (b'', 400),
        (b'This is text, not a picture.', 415),
        (png[: len(png) // 2], 422),
        (photo[: len(photo) // 2], 422),
        (bytes(40_000_000), 413),
        (GIF_BOMB, 413),
    ]
    with (
        RedisServer(tmp_path) as redis,
        Server(tmp_path, redis_host=redis.url) as server,
    ):
        for body, status in rejected:
            for framed in body, iter([body]):
                answer = server.ask('POST', '/images', framed)
                assert (answer.status, answer.is_problem) == (status, True), body[:20]

        for part in png[:-12], photo[:-12], png[: len(png) // 2]:
            announced = f'Content-Length: {len(part) + 12}'
            assert cut_short(server, announced, part) in (0, 400)
            chunk = b'%x\r\n%s\r\n' % (len(part), part)
            assert cut_short(server, 'Transfer-Encoding: chunked', chunk) in (0, 400)

        until(lambda: not server.files)
        assert redis.keys == []
        assert server.images() == []
        assert redis.keys == ['asgilook:/images']


def test_server_stalled_upload(tmp_path: Path) -> None:
    picture = samples.photo(300, 200)
    announced = f'Content-Length: {len(picture)}'
    chunk = b'%x\r\n%s\r\n' % (len(picture), picture)
    with Server(tmp_path, body_timeout=1) as server:
        check_timeout(server, announced, picture[:-1], is_silent)
        check_timeout(server, announced, b'', is_silent)
        check_timeout(server, announced, b'', dribbles)
        check_timeout(server, 'Transfer-Encoding: chunked', chunk, is_silent)
        assert server.files == server.images() == []


def check_timeout(
    server: Server, framing: str, part: bytes, goes_on: Callable[[socket.socket], bool]
) -> None:
    """Upload part of a body, then continue too slowly: the response is 408."""
    with server.uploading(framing, part) as client:
        until(lambda: goes_on(client))
        answer = read_answer(client)
    assert answer is not None
    assert (answer.status, answer.is_problem) == (408, True)


def is_silent(client: socket.socket) -> bool:
    """Send nothing; return whether there is a response."""
    return bool(select.select([client], [], [], 0.1)[0])


def dribbles(client: socket.socket) -> bool:
    """Send a byte; return whether there is a response."""
    client.sendall(b'\0')
    return is_silent(client)


def spellings(image_id: str) -> list[str]:
    """Return other spellings of a UUID, each accepted by some parser."""
    return [
        image_id.upper(),
        image_id.replace('-', ''),
        f'{{{image_id}}}',
        f'urn:uuid:{image_id}',
        image_id[:-1] + f'%{ord(image_id[-1]):x}',
        f'{image_id}%20',
    ]


def probes(image: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield requests with their status; none of them may change a cache."""
    for path in '/images', *paths(image):
        yield 'OPTIONS', path, 200
        yield 'HEAD', path, 200
        yield 'GET', f'{path}?x=1', 200
        yield 'GET', f'/{path}', 404
        yield 'POST', path, 405 if path != '/images' else 400
    for spelling in spellings(image['id']):
        for path in paths(image):
            for method in 'GET', 'HEAD':
                yield method, path.replace(image['id'], spelling), 404


def test_server_nothing_else_is_cached(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        settings: dict[str, Any] = {
            'redis_host': redis.url,
            'redis_timeout': 10,
            'cache_memory': 0,
        }
        with Server(tmp_path, **settings) as server:
            image = server.upload(samples.photo(320, 240))
            canonical = ['/images', *paths(image)]

            def digests(hit: bool) -> list[str]:
                answers = [server.get(path) for path in canonical]
                assert [answer.hit for answer in answers] == [hit] * len(answers)
                return [hashlib.sha256(answer.body).hexdigest() for answer in answers]

            for method, path, status in probes(image):
                assert server.ask(method, path).status == status, path
            assert redis.keys == []
            before = digests(hit=False)
            stored = (server.storage / image['id']).read_bytes()
            assert before[1] == hashlib.sha256(stored).hexdigest()
            for method, path, status in probes(image):
                assert server.ask(method, path).status == status, path
                assert digests(hit=True) == before
            assert redis.keys == sorted(f'asgilook:{path}' for path in canonical)


def test_server_workers(tmp_path: Path) -> None:
    """Two workers agree immediately, also on what one of them has deleted."""
    settings: dict[str, Any] = {'api_token': 'secret', 'threads': 1, 'queue_size': 1}
    with Server(tmp_path, '--workers', '2', **settings) as server:
        upload = partial(server.ask, 'POST', '/images', authorization=TOKEN)
        image = upload(samples.photo(320, 240)).json
        looked_at = ['/images', *paths(image)]
        with ThreadPoolExecutor(60) as clients:
            pictures = [samples.png(320, 240, seed=seed) for seed in range(40)]
            uploads = [clients.submit(upload, picture) for picture in pictures]
            gets = [
                clients.submit(server.get, looked_at[i % len(looked_at)])
                for i in range(200)
            ]
        answers = [task.result() for task in uploads + gets]
        busy = [answer for answer in answers if answer.status == 503]
        log.info('%d of %d answers were 503', len(busy), len(answers))
        assert {answer.status for answer in answers} == {200, 201, 503}
        assert all(int(answer.headers['Retry-After']) > 0 for answer in busy)

        posted = [x.json for x in answers if x.status == 201]
        first, second = server.on_each_worker(server.images)
        assert first == second
        assert first[0] == image
        assert sorted(ids(first[1:])) == sorted(ids(posted))
        check_delete(server, image)


def check_delete(server: Server, image: dict[str, Any]) -> None:
    """Delete an image that each worker has in memory: both stop serving it."""
    ask = [partial(server.get, path) for path in paths(image)]
    for get in ask:
        etags = {answer.headers['ETag'] for answer in server.on_each_worker(get)}
        assert all(answer.hit for answer in server.on_each_worker(get))
        ask = [*ask, partial(get, if_none_match=etags.pop())]
        assert not etags
        assert server.on_each_worker(ask[-1])[0].status == 304

    assert server.ask('DELETE', image['image']).status == 401
    deleted = server.ask('DELETE', image['image'], authorization=TOKEN)
    assert (deleted.status, deleted.body) == (204, b'')
    for get in ask:
        assert [x.status for x in server.on_each_worker(get)] == [404, 404]
    for images in server.on_each_worker(server.images):
        assert image['id'] not in ids(images)


def test_server_restart(tmp_path: Path) -> None:
    def seen() -> list[tuple[bytes, str]]:
        paths_ = [path for image in server.images() for path in paths(image)]
        answers = [server.get(path) for path in ['/images', *paths_]]
        return [(answer.body, answer.headers['ETag']) for answer in answers]

    with Server(tmp_path) as server:
        for picture in samples.photo(320, 240), samples.png(256, 256):
            server.upload(picture)
        before = seen()
    with Server(tmp_path) as server:
        assert seen() == before
    assert len(before) == 1 + 2 + 3


# Set CRASH_KILLS for a longer run.
KILLS = int(os.environ.get('CRASH_KILLS', '5'))


class Uploaders:
    """Four clients that upload continuously, whichever process dies."""

    def __init__(self, server: Server, pictures: list[bytes]) -> None:
        self._server = server
        self._pictures = pictures
        self._over = threading.Event()
        self.acknowledged: list[str] = []

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Run the clients."""
        with ThreadPoolExecutor() as executor:
            tasks = [executor.submit(self._upload, seed) for seed in range(4)]
            try:
                yield
            finally:
                self._over.set()
        for task in tasks:
            task.result()

    def _upload(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._over.is_set():
            try:
                answer = self._server.ask('POST', '/images', rng.choice(self._pictures))
            except (OSError, http.client.HTTPException):
                continue
            assert answer.status == 201
            self.acknowledged.append(answer.json['id'])

    def until_acknowledged(self, count: int) -> None:
        """Wait until `count` more uploads have been answered."""
        enough = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= enough)


def test_server_killed(tmp_path: Path) -> None:
    """After any kill -9, acknowledged uploads are there, and no partial files."""
    pictures = [samples.photo(640, 480), samples.png(500, 400), samples.photo(64, 64)]
    rng = random.Random(9)
    checked: set[str] = set()
    acknowledged: list[str] = []
    for killed in *itertools.islice(itertools.cycle(('all', 'one')), KILLS), '':
        with Server(tmp_path, '--workers', '2', page_size=10**6) as server:
            check_storage(server, acknowledged, checked)
            uploaders = Uploaders(server, pictures)
            acknowledged = uploaders.acknowledged
            with uploaders.under_way():
                uploaders.until_acknowledged(5)
                time.sleep(rng.uniform(0, 0.1))  # at an arbitrary moment
                if killed == 'all':
                    server.kill()
                if killed == 'one':
                    os.kill(server.workers[0], signal.SIGKILL)
                    server.logged('Application startup complete', 3)
    log.info('%d images are stored', len(checked))


def check_storage(server: Server, acknowledged: list[str], checked: set[str]) -> None:
    """Check that no temporary file is left, and that every listed image decodes."""
    assert [name for name in server.files if not CANONICAL_UUID.fullmatch(name)] == []
    first, images = server.on_each_worker(server.images)
    assert first == images
    assert checked.union(acknowledged) <= set(ids(images))
    for image in images:
        if image['id'] not in checked:
            assert list(decode(server.get(image['image'])).size) == image['size']
            checked.add(image['id'])


class KeptAlive:
    """Clients that keep their connections, and never repeat a request."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._over = threading.Event()
        self.statuses: list[int] = []

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Run the clients; a lost request is raised at the end."""
        with ThreadPoolExecutor() as executor:
            tasks = [executor.submit(self._run) for _ in range(4)]
            try:
                yield
            finally:
                self._over.set()
        for task in tasks:
            task.result()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        with contextlib.closing(connection):
            while not self._over.is_set():
                connection.request('GET', '/images')
                with connection.getresponse() as response:
                    response.read()
                    self.statuses.append(response.status)


def test_server_reload(tmp_path: Path) -> None:
    """SIGHUP replaces the workers one after the other, and no request is lost."""
    with Server(tmp_path, '--workers', '2', access_log='none') as server:
        clients = KeptAlive(server)
        with clients.under_way():
            for count in 2, 4:
                until(lambda: len(clients.statuses) > 100)
                os.kill(server.pid, signal.SIGHUP)
                server.logged('Application startup complete', count + 2)
                server.logged('Finished server process', count)
        assert {*clients.statuses} == {200}
        assert server.stop() == 0


def test_server_sigterm(tmp_path: Path) -> None:
    """An upload in progress is answered; an idle connection is closed."""
    picture = samples.photo(640, 480)
    framing = f'Content-Length: {len(picture)}'
    limits = {'cli.serve.GRACEFUL_SHUTDOWN_TIMEOUT': 3}
    with (
        Server(tmp_path, limits=limits) as server,
        socket.create_connection((HOST, server.port), timeout=60) as idle,
        server.uploading(framing, picture[:1000]) as stalled,
        server.uploading(framing, picture[:1000]) as good,
    ):
        idle.sendall(b'GET /images HTTP/1.1\r\nHost: localhost\r\n\r\n')
        answered = read_answer(idle)
        assert answered is not None
        assert answered.status == 200

        os.kill(server.pid, signal.SIGTERM)
        server.logged('Shutting down')
        assert idle.recv(100) == b''
        good.sendall(picture[1000:])
        answer = read_answer(good)
        assert answer is not None
        assert answer.status == 201
        assert server.stop() == 0
        rejected = read_answer(stalled)
    assert rejected is None or (rejected.status, rejected.is_problem) == (503, True)
    assert server.files == [answer.json['id']]
