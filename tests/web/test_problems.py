from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

import falcon
import pytest
from falcon.testing import TestClient

from asgilook import errors
from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import AsgilookError, Busy, Unavailable
from asgilook.web.problems import problem_response

from .. import samples
from ..conftest import problem

# The table of the contract.
STATUS = {
    'InvalidRequest': 400,
    'ImageNotFound': 404,
    'BodyTimeout': 408,
    'UploadTooLarge': 413,
    'UnsupportedFormat': 415,
    'ImageDamaged': 422,
    'StoredImageDamaged': 500,
    'Unavailable': 503,
    'Busy': 503,
    'StorageUnavailable': 503,
    'DeadlineExceeded': 503,
    'DatabaseUnavailable': 503,
    'OutcomeUnknown': 503,
    'ImageExists': 503,
    'ImageReplaced': 503,
    'ImageUnreadable': 503,
    'StorageFull': 507,
}


class Failing:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.text = 'half an answer'
        resp.set_header('Cache-Control', 'public')
        raise self._error


Make = Callable[[BaseException], TestClient]


@pytest.fixture
def make_client(config: Config) -> Make:
    """Return a function that makes a client of a service whose `/failing` raises."""

    def make(error: BaseException) -> TestClient:
        app = create_app(config)
        app.add_route('/failing', Failing(error))
        return TestClient(app)

    return make


def test_every_error_has_a_status() -> None:
    kinds = inspect.getmembers(errors, inspect.isclass)
    names = {name for name, kind in kinds if issubclass(kind, AsgilookError)}
    assert names - {'AsgilookError'} == set(STATUS)


@pytest.mark.parametrize(('name', 'status'), STATUS.items())
def test_error_gets_problem_json(make_client: Make, name: str, status: int) -> None:
    result = make_client(getattr(errors, name)('What is wrong.')).simulate_get(
        '/failing'
    )
    assert problem(result, status) == 'What is wrong.'
    assert result.json['type'] == 'about:blank'
    assert result.status == f'{status} {result.json["title"]}'
    assert ('retry-after' in result.headers) is (status == 503)


@pytest.mark.parametrize(
    ('error', 'seconds'),
    [(Busy(''), '1'), (Unavailable('', 7), '7'), (MemoryError(), '1')],
)
def test_unavailable_has_retry_after(
    make_client: Make, error: Exception, seconds: str
) -> None:
    result = make_client(error).simulate_get('/failing')
    problem(result, 503)
    assert result.headers['retry-after'] == seconds


@pytest.mark.parametrize('error', [RuntimeError, OSError, KeyError, AssertionError])
def test_unexpected_error_is_logged_but_not_shown(
    make_client: Make, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    result = make_client(error('/a/path/of/the/service')).simulate_get('/failing')
    assert problem(result, 500)
    assert '/a/path' not in result.text
    (record,) = (r for r in caplog.records if r.name == 'asgilook.web.problems')
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert 'GET /failing' in record.getMessage()
    assert '/a/path' in caplog.text


@pytest.mark.parametrize(
    'accept', [None, 'application/json', 'image/*', 'text/xml', '']
)
def test_falcon_error_gets_problem_json_whatever_accept_is(
    make_client: Make, accept: str | None
) -> None:
    client = make_client(falcon.HTTPConflict(description='Not like this.'))
    headers = {} if accept is None else {'Accept': accept}
    for method, uri, status in (
        ('GET', '/failing', 409),
        ('GET', '/x', 404),
        ('PUT', '/failing', 405),
    ):
        problem(client.simulate_request(method, uri, headers=headers), status)


def test_method_that_is_not_allowed_gets_those_that_are(client: TestClient) -> None:
    result = client.simulate_put('/images')
    assert problem(result, 405) == f'This URL allows {result.headers["allow"]}.'
    assert 'POST' in result.headers['allow']


@pytest.mark.parametrize(
    ('media_type', 'hinted'),
    [
        ('application/x-www-form-urlencoded', True),
        ('Application/X-WWW-Form-URLencoded; charset=utf-8', True),
        ('image/jpeg', False),
        (None, False),
    ],
)
@pytest.mark.parametrize('body', [b'file=photo.jpg', samples.photo(99, 99)[:-1000]])
def test_hint_for_curl_d(
    client: TestClient, media_type: str | None, hinted: bool, body: bytes
) -> None:
    result = client.simulate_post('/images', body=body, content_type=media_type)
    assert result.status_code in (415, 422)
    assert ('--data-binary @FILE' in result.json['detail']) is hinted


def test_error_on_head_has_no_body(make_client: Make) -> None:
    result = make_client(errors.ImageNotFound('Gone.')).simulate_head('/failing')
    assert (result.status_code, result.content) == (405, b'')


def test_problem_response() -> None:
    status, headers, body = response = problem_response(
        503, 'Not now.', headers={'retry-after': '3'}, storage='down'
    )
    assert status == 503
    assert json.loads(body) == {
        'type': 'about:blank',
        'title': 'Service Unavailable',
        'status': 503,
        'detail': 'Not now.',
        'storage': 'down',
    }
    assert headers == {
        'content-type': 'application/problem+json',
        'content-length': str(len(body)),
        'cache-control': 'no-store',
        'retry-after': '3',
    }
    assert (b'content-length', b'%d' % len(body)) in response.asgi_headers()


def test_problem_response_without_detail() -> None:
    assert 'detail' not in json.loads(problem_response(404).body)
