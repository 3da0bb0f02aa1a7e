from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.store import Store

from .. import samples


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that takes the access lines so far."""
    caplog.set_level(logging.INFO, 'asgilook.access')

    def take() -> list[str]:
        found = [
            record.getMessage()
            for record in caplog.records
            if record.name == 'asgilook.access'
        ]
        caplog.clear()
        return found

    return take


def test_line_of_text(client: TestClient, lines: Any) -> None:
    client.simulate_get(
        '/images', query_string='x=%0Ay', headers={'X-Request-ID': 'a-1'}
    )
    (line,) = lines()
    assert line.startswith('- "GET /images?x=%0Ay" 200 2 bytes ')
    assert line.endswith(' ms Miss a-1')


def test_lines_of_json(config: Config, lines: Any) -> None:
    config.access_log = 'json'
    client = TestClient(create_app(config))
    image = client.simulate_post('/images', body=samples.photo(200, 100)).json['image']
    for _ in range(2):
        body = client.simulate_get(image).content
    client.simulate_head(image)
    client.simulate_get('/none', headers={'X-Request-ID': 'not sane'})
    post, miss, hit, head, none = map(json.loads, lines())
    assert (post['method'], post['target'], post['status']) == ('POST', '/images', 201)
    assert (miss['cache'], hit['cache'], none['cache']) == ('Miss', 'Hit', '-')
    assert hit['bytes'] == len(body)
    assert (head['bytes'], head['status'], none['status']) == (0, 200, 404)
    assert hit['ms'] >= 0
    assert len({line['id'] for line in (post, miss, hit, head, none)}) == 5


def test_no_line(config: Config, lines: Any) -> None:
    config.access_log = 'none'
    TestClient(create_app(config)).simulate_get('/images')
    assert lines() == []


@pytest.mark.parametrize(
    ('given', 'returned'),
    [
        ('abc', 'abc'),
        ('x' * 128, 'x' * 128),
        ('x' * 129, None),
        ('a b', None),
        ('', None),
        (None, None),
    ],
)
def test_request_id(
    client: TestClient, given: str | None, returned: str | None
) -> None:
    headers = {} if given is None else {'X-Request-ID': given}
    result = client.simulate_get('/images', headers=headers)
    assert result.headers.get('x-request-id') == returned


def test_fault_of_the_service_has_an_id(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(self: Store, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError('a secret')

    monkeypatch.setattr(Store, 'list_images', fail)
    result = client.simulate_get('/images')
    assert result.status_code == 500
    assert 'secret' not in result.text
    assert result.headers['x-request-id'] in caplog.text
    assert 'a secret' in caplog.text
