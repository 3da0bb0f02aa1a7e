from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import falcon.testing
import pytest
from falcon.testing import TestClient

from asgilook.errors import InvalidRequest, UploadTooLarge
from asgilook.web.problems import add_error_handlers
from asgilook.web.uploads import FORM_OVERHEAD, receive_upload, too_large

from ..conftest import problem

LIMIT = 600_000


class File:
    """An asynchronous file in memory, which counts its writes."""

    def __init__(self) -> None:
        self.content = b''
        self.writes = 0

    async def write(self, data: bytes) -> None:
        self.content += data
        self.writes += 1


class Uploads:
    def __init__(self) -> None:
        self.file = File()

    async def on_post(self, req: Any, resp: Any) -> None:
        await receive_upload(req, self.file, LIMIT)


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def client(uploads: Uploads) -> TestClient:
    app: Any = falcon.asgi.App()
    app.add_route('/', uploads)
    add_error_handlers(app)
    return TestClient(app)


def form(*parts: tuple[str, bytes], end: bytes = b'--x--\r\n') -> bytes:
    body = b''
    for head, content in parts:
        body += f'--x\r\nContent-Disposition: form-data; {head}\r\n\r\n'.encode()
        body += content + b'\r\n'
    return body + end


FIELD = 'name="field"'
FILE = 'name="image"; filename="a.png"'


@pytest.mark.parametrize(('size', 'writes'), [(1, 1), (250_000, 1), (LIMIT, 3)])
def test_body_is_written_in_large_blocks(
    client: TestClient, uploads: Uploads, size: int, writes: int
) -> None:
    body = bytes(range(250)) * (size // 250 + 1)
    assert client.simulate_post('/', body=body[:size]).status_code == 200
    assert uploads.file.content == body[:size]
    assert uploads.file.writes == writes


@pytest.mark.parametrize('content_type', ['multipart/form-data', 'Multipart/Form-Data'])
@pytest.mark.parametrize(
    'parts',
    [
        [(FILE, b'content')],
        [(FIELD, b'value'), (FILE, b'content'), (FIELD, b'value')],
        [('name="image"; filename=""', b'content')],
        [(FILE, b'content'), ('name="second"', b'')],
    ],
)
def test_form(
    client: TestClient,
    uploads: Uploads,
    parts: list[tuple[str, bytes]],
    content_type: str,
) -> None:
    content_type += '; boundary=x'
    result = client.simulate_post('/', body=form(*parts), content_type=content_type)
    assert result.status_code == 200, result.text
    assert uploads.file.content == b'content'


@pytest.mark.parametrize(
    ('status', 'body'),
    [
        (400, b''),
        (400, b'no form'),
        (400, form()),
        (400, form((FIELD, b'value'))),
        (400, form((FILE, b''))),
        (400, form((FILE, b'content'), (FILE, b'content'))),
        (400, form((FILE, b'content'), end=b'')),
        (413, form((FILE, bytes(LIMIT + 1)))),
        (413, form((FIELD, b'value'), (FILE, bytes(LIMIT + 1)))),
    ],
)
def test_rejected_form(client: TestClient, status: int, body: bytes) -> None:
    content_type = 'multipart/form-data; boundary=x'
    problem(client.simulate_post('/', body=body, content_type=content_type), status)


def test_form_of_maximum_size(client: TestClient, uploads: Uploads) -> None:
    content_type = 'multipart/form-data; boundary=x'
    body = form((FIELD, b'value'), (FILE, bytes(LIMIT)))
    result = client.simulate_post('/', body=body, content_type=content_type)
    assert result.status_code == 200
    assert uploads.file.content == bytes(LIMIT)


@pytest.mark.parametrize(
    ('limit', 'length', 'detail'),
    [
        (10, 11, 'The upload has 11 bytes; the limit is 10 bytes.'),
        (2**25, 2**25 + 1, 'The upload has 32.01 MiB; the limit is 32 MiB.'),
        (2**25, 10**8, 'The upload has 95.37 MiB; the limit is 32 MiB.'),
        (2**25, None, 'The upload is larger than the limit of 32 MiB.'),
    ],
)
def test_too_large(limit: int, length: int | None, detail: str) -> None:
    assert str(too_large(limit, length)) == detail


def test_form_that_is_announced_as_too_large(
    client: TestClient, uploads: Uploads
) -> None:
    result = client.simulate_post(
        '/',
        body=form((FILE, bytes(LIMIT + FORM_OVERHEAD))),
        content_type='multipart/form-data; boundary=x',
    )
    assert problem(result, 413).startswith('The upload has 665')
    assert uploads.file.writes == 0


class Request:
    """What `receive_upload` needs of a request."""

    content_type = None

    def __init__(self, chunks: list[bytes], content_length: int | None) -> None:
        self.content_length = content_length
        self.stream = self._stream(chunks)
        self.read = 0

    async def _stream(self, chunks: list[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            self.read += 1
            yield chunk


@pytest.mark.parametrize(
    ('chunks', 'content_length', 'error', 'read'),
    [
        ([b'12345'], 5, None, 1),
        ([b'12', b'345'], None, None, 2),
        ([b'1234567890'], 10, None, 1),
        ([b'1234567890'], 11, UploadTooLarge, 0),
        ([b'12345', b'67890', b'1', b'2'], None, UploadTooLarge, 3),
        ([b'12345'], 6, InvalidRequest, 1),
        ([], None, InvalidRequest, 0),
        ([], 0, InvalidRequest, 0),
        ([], 5, InvalidRequest, 0),
    ],
)
async def test_raw_body(
    chunks: list[bytes],
    content_length: int | None,
    error: type[Exception] | None,
    read: int,
) -> None:
    request: Any = Request(chunks, content_length)
    file = File()
    if error is None:
        await receive_upload(request, file, 10)
        assert file.content == b''.join(chunks)
    else:
        with pytest.raises(error):
            await receive_upload(request, file, 10)
    assert request.read == read
