"""What only an object store does; S3 is moto, SeaweedFS, or a stub."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import socket
import threading
import uuid
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from obstore.store import S3Store

from asgilook.errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)
from asgilook.storage import s3, s3_client
from asgilook.storage.s3 import ObjectStorage

from ..conftest import FILE_SIZE, logged
from ..object_stores import ObjectStore, behind, name_of
from ..proxy import HTTPProxy
from ..servers import run, until

FIRST, SECOND = (str(uuid.UUID(int=number)) for number in (1, 2))

Outside = Callable[..., Any]


@pytest.fixture
def storage(bucket: str, tmp_path: Path) -> Iterator[ObjectStorage]:
    storage = ObjectStorage(bucket, str(tmp_path / 'work'))
    storage.start()
    yield storage
    storage.stop()


@pytest.fixture
def outside(s3: ObjectStore, bucket: str) -> Outside:
    """Return a function that asks for an object of the bucket past the service."""

    def ask(operation: str, name: str, **parameters: Any) -> Any:
        name = f'a/b/{name}'
        call = getattr(s3.client, operation)
        return call(Bucket=name_of(bucket), Key=name, **parameters)

    return ask


def publish(storage: ObjectStorage, content: bytes, image_id: str = FIRST) -> None:
    new = storage.create()
    try:
        new.file.write(content)
        new.publish(image_id)
    finally:
        new.close()


def url_of(port: int) -> str:
    """Return the URL of a bucket on a server of this machine, with its keys."""
    keys = 'region=x&access_key_id=k3y&secret_access_key=s3cret'
    return f's3://bucket/a/b?endpoint=http://127.0.0.1:{port}&{keys}'


CALLS: dict[str, Callable[[ObjectStorage], object]] = {
    'open': lambda storage: storage.open(FIRST),
    'put': lambda storage: publish(storage, b'content'),
    'remove': lambda storage: storage.remove(FIRST),
    'entries': lambda storage: list(storage.entries()),
}


@pytest.fixture(params=list(CALLS))
def call(request: pytest.FixtureRequest) -> Callable[[ObjectStorage], object]:
    """Return what asks the store for something."""
    return CALLS[request.param]


# -- objects ----------------------------------------------------------------------


def test_object_as_other_programs_see_it(
    storage: ObjectStorage, outside: Outside
) -> None:
    publish(storage, b'content')
    found = outside('get_object', f'{FIRST}.jpeg')
    assert found['ContentType'] == 'image/jpeg'
    assert found['Body'].read() == b'content'


def test_object_of_another_writer_is_not_replaced(
    storage: ObjectStorage, outside: Outside
) -> None:
    outside('put_object', f'{FIRST}.jpeg', Body=b'theirs')
    with pytest.raises(ImageExists):
        publish(storage, b'ours')
    assert outside('get_object', f'{FIRST}.jpeg')['Body'].read() == b'theirs'


def test_foreign_objects_are_not_listed(
    storage: ObjectStorage, outside: Outside
) -> None:
    publish(storage, b'content')
    for name in (SECOND, 'note.jpeg', f'{SECOND}.jpeg.old', f'c/{SECOND}.jpeg'):
        outside('put_object', name, Body=b'foreign')
    assert [entry.image_id for entry in storage.entries()] == [FIRST]


async def test_more_objects_than_a_page(storage: ObjectStorage) -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(1005)]
    client = storage.client()
    for start in range(67):  # 15 at a time
        puts = (
            client.put_async(f'{image_id}.jpeg', b'x') for image_id in ids[start::67]
        )
        await asyncio.gather(*puts)
    assert [entry.image_id for entry in storage.entries()] == ids


def test_object_removed_between_two_reads(
    storage: ObjectStorage, outside: Outside
) -> None:
    publish(storage, b'content')
    with storage.open(FIRST) as file:
        assert file.read(3) == b'con'
        outside('delete_object', f'{FIRST}.jpeg')
        with pytest.raises(ImageNotFound):
            file.read(3)


def test_object_replaced_between_two_reads(
    storage: ObjectStorage, outside: Outside
) -> None:
    publish(storage, b'content')
    with storage.open(FIRST) as file:
        assert file.read(3) == b'con'
        outside('put_object', f'{FIRST}.jpeg', Body=b'another')
        with pytest.raises(StorageUnavailable):
            file.read(3)
        file.seek(0)


def test_seek(storage: ObjectStorage) -> None:
    publish(storage, b'content')
    with storage.open(FIRST) as file:
        assert file.readable()
        assert file.seekable()
        assert file.seek(-3, os.SEEK_END) == 4
        assert file.read() == b'ent'
        assert file.seek(-5, os.SEEK_CUR) == 2
        assert file.read(2) == b'nt'
        assert file.seek(100) == 100
        assert file.read() == b''


def test_whole_object_is_one_request(
    s3: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    with HTTPProxy(s3.port) as proxy:
        storage = ObjectStorage(behind(proxy, bucket), str(tmp_path / 'work'))
        storage.start()
        publish(storage, b'content')
        proxy.exchanges.clear()
        with storage.open(FIRST) as file:
            assert file.read() == b'content'
        (exchange,) = proxy.exchanges
        assert exchange.method == 'GET'
        assert exchange.path.endswith(f'/a/b/{FIRST}.jpeg')
        storage.stop()


STREAM = """
import resource, sys
from asgilook.storage.s3 import ObjectStorage

def allowed(extra):
    lines = open('/proc/self/status').read().split('VmData:')[1].split()
    size = int(lines[0]) * 1024 + extra
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))

def publish(image_id, size):
    new = storage.create()
    for _ in range(size // 1024):
        new.file.write(b'x' * 1024)
    new.publish(image_id)
    new.close()

def read(image_id):
    with storage.open(image_id) as file:
        return sum(len(b) for b in iter(lambda: file.read(2**20), b''))

storage = ObjectStorage(*sys.argv[1:3])
storage.start()
publish(sys.argv[3], 2**20)
read(sys.argv[3])
allowed(16 * 2**20)
publish(sys.argv[4], 40 * 2**20)
print(read(sys.argv[4]))
"""


def test_large_object_takes_little_memory(bucket: str, tmp_path: Path) -> None:
    """40 MiB both ways, where the process may have 16 MiB more."""
    done = run('-c', STREAM, bucket, str(tmp_path / 'work'), FIRST, SECOND)
    assert done.stdout == f'{40 * 2**20}\n', done.stderr


# -- this machine -----------------------------------------------------------------


def test_no_local_file_is_left(storage: ObjectStorage, tmp_path: Path) -> None:
    new = storage.create()
    new.file.write(b'content')
    new.file.flush()
    assert os.listdir(tmp_path / 'work') == []
    new.close()


def test_local_folder_is_missing(storage: ObjectStorage, tmp_path: Path) -> None:
    os.rmdir(tmp_path / 'work')
    assert not storage.is_usable()
    with pytest.raises(StorageUnavailable):
        storage.create()


def test_local_disk_is_full(storage: ObjectStorage, file_size_limit: None) -> None:
    new = storage.create()
    new.file.write(b'x' * (FILE_SIZE + 1))
    with pytest.raises(StorageFull):
        new.publish(FIRST)
    with pytest.raises(OSError, match='File too large'):
        new.close()


# -- a store that fails -----------------------------------------------------------


@contextlib.contextmanager
def answering(status: int, code: str) -> Iterator[int]:
    """Serve one and the same error, with a key in it; yield the port."""
    body = f'<Error><Code>{code}</Code><AWSAccessKeyId>k3y</AWSAccessKeyId></Error>'

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get('Content-Length', 0)))
            self.send_response(status)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ('status', 'code', 'kind'),
    [
        (401, 'InvalidAccessKeyId', StorageUnavailable),
        (403, 'AccessDenied', StorageUnavailable),
        (404, 'NoSuchBucket', StorageUnavailable),
        (500, 'InternalError', StorageUnavailable),
        (507, 'XMinioStorageFull', StorageFull),
    ],
)
def test_store_that_rejects(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[ObjectStorage], object],
    status: int,
    code: str,
    kind: type[AsgilookError],
) -> None:
    with answering(status, code) as port:
        storage = ObjectStorage(url_of(port), str(tmp_path))
        with contextlib.suppress(StorageFull):
            storage.start()
        with pytest.raises(kind) as raised:
            call(storage)
        storage.stop()
    assert '127.0.0.1' not in str(raised.value)
    (line,) = logged(caplog)
    assert line.startswith('WARNING object store unavailable: ')
    assert str(status) in line
    assert line.endswith(f' {code}')
    assert 'k3y' not in line
    assert 's3cret' not in line


def test_no_bucket(
    bucket: str, tmp_path: Path, call: Callable[[ObjectStorage], object]
) -> None:
    parts = urlsplit(bucket)
    storage = ObjectStorage(
        parts._replace(netloc='no-such-bucket').geturl(), str(tmp_path)
    )
    storage.start()
    with pytest.raises(StorageUnavailable):
        call(storage)
    assert not storage.is_usable()
    storage.stop()


def test_closed_port(tmp_path: Path, call: Callable[[ObjectStorage], object]) -> None:
    storage = ObjectStorage(url_of(1), str(tmp_path))
    storage.start()
    with pytest.raises(StorageUnavailable):
        call(storage)
    assert not storage.is_usable()
    storage.stop()


class Silent:
    """A server that accepts connections, and nothing more."""

    def __init__(self) -> None:
        self._socket = socket.create_server(('127.0.0.1', 0))
        self.port: int = self._socket.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._clients.append(self._socket.accept()[0])

    @property
    def connections(self) -> int:
        return len(self._clients)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for client in self._clients:
            client.close()


def connecting_to(
    server: Silent, timeouts: Container[float]
) -> Callable[[str, float], S3Store]:
    """Return a `connect` that directs clients with these timeouts to the server."""

    def connect(url: str, timeout: float) -> S3Store:
        target = url_of(server.port) if timeout in timeouts else url
        return s3_client.connect(target, timeout)

    return connect


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """Start a silent server, for which nobody waits long."""
    for name, seconds in (('SHORT', 0.025), ('', 0.05), ('LONG', 0.1)):
        monkeypatch.setattr(s3, f'{name}_TIMEOUT'.lstrip('_'), seconds)
    monkeypatch.setattr(s3_client, 'SLOW_SECONDS', 0.01)
    server = Silent()
    yield server
    server.stop()


def test_store_that_does_not_respond(
    silent: Silent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[ObjectStorage], object],
) -> None:
    monkeypatch.setattr(s3_client, 'RETRY_INTERVAL', 0)
    storage = ObjectStorage(url_of(silent.port), str(tmp_path))
    storage.start()
    with pytest.raises(StorageUnavailable):
        call(storage)
    with pytest.raises(StorageUnavailable):
        publish(storage, b'x' * (s3.LARGE + 1))
    assert not storage.is_usable()
    assert silent.connections >= 4
    storage.stop()


def test_store_that_did_not_respond_gets_no_requests(
    silent: Silent,
    tmp_path: Path,
    call: Callable[[ObjectStorage], object],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_client, 'RETRY_INTERVAL', 600)
    storage = ObjectStorage(url_of(silent.port), str(tmp_path))
    storage.start()
    asked = silent.connections
    for _ in range(20):
        with pytest.raises(StorageUnavailable):
            call(storage)
        with pytest.raises(StorageUnavailable):
            storage.previews.write(FIRST, b'content')
        with pytest.raises(StorageUnavailable):
            storage.previews.remove(FIRST)
    assert not storage.is_usable()
    assert silent.connections == asked
    assert len(logged(caplog)) == 1
    storage.stop()


def test_store_that_recovers(
    silent: Silent,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(s3_client, 'RETRY_INTERVAL', 0.01)
    storage = ObjectStorage(bucket, str(tmp_path))
    with monkeypatch.context() as patch:
        timeouts = (s3.SHORT_TIMEOUT, s3.TIMEOUT, s3.LONG_TIMEOUT)
        patch.setattr(s3, 'connect', connecting_to(silent, timeouts))
        storage.start()
        with pytest.raises(StorageUnavailable):
            publish(storage, b'content')
    monkeypatch.undo()  # the timeouts
    storage.start()
    until(storage.is_usable)
    publish(storage, b'content')
    assert storage.open(FIRST).read() == b'content'
    assert logged(caplog)[1:] == ['WARNING object store available again']
    storage.stop()


def test_short_probe_keeps_no_requests_away(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is too slow for a readiness probe may still answer requests."""
    monkeypatch.setattr(s3_client, 'SLOW_SECONDS', 0)
    monkeypatch.setattr(s3, 'SHORT_TIMEOUT', 0.05)
    server = Silent()
    monkeypatch.setattr(s3, 'connect', connecting_to(server, (s3.SHORT_TIMEOUT,)))
    storage.start()
    try:
        assert not storage.is_usable()
    finally:
        server.stop()
    publish(storage, b'content')
    assert storage.open(FIRST).read() == b'content'
