from __future__ import annotations

from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config

from ..conftest import Json

ORIGIN = 'https://a.example'
ALLOWED = 'access-control-allow-origin'
EXPOSED = 'access-control-expose-headers'


def ask(config: Config, origins: Any, method: str = 'GET', **headers: str) -> Any:
    config.cors_origins = origins
    client = TestClient(create_app(config))
    return client.simulate_request(
        method, '/images', headers={'Origin': ORIGIN} | headers
    )


def test_no_origin_is_allowed_unless_set(config: Config) -> None:
    assert ALLOWED not in ask(config, None).headers


def test_any_origin(config: Config) -> None:
    headers = ask(config, '*').headers
    assert headers[ALLOWED] == '*'
    assert headers['vary'] == 'Accept'
    exposed = headers[EXPOSED].split(', ')
    assert {'ETag', 'Link', 'Location'} <= set(exposed)


@pytest.mark.parametrize('memory', [64 * 2**20, 0], ids=['memory', 'redis'])
def test_any_origin_may_read_what_a_cache_kept_of_another_request(
    config: Config, image: Json, memory: int
) -> None:
    """All responses have the same headers, with and without `Origin`."""
    config.cors_origins = '*'
    config.cache_memory = memory
    client = TestClient(create_app(config))
    for uri in ('/images', image['image'], image['thumbnails'][0], '/', '/nothing'):
        for _ in range(3):
            plain = client.simulate_get(uri)
            found = client.simulate_get(uri, headers={'Origin': ORIGIN})
            assert plain.headers[ALLOWED] == found.headers[ALLOWED] == '*'
            assert plain.headers[EXPOSED] == found.headers[EXPOSED]
        if etag := plain.headers.get('etag'):
            unmodified = client.simulate_get(uri, headers={'If-None-Match': etag})
            assert unmodified.status_code == 304
            assert unmodified.headers[ALLOWED] == '*'


async def accept(req: object, resp: object, **kwargs: object) -> None:
    """Respond with 200, and without `Allow`."""


def test_preflight_of_a_url_without_allow_is_rejected(config: Config) -> None:
    config.cors_origins = '*'
    headers = {'Origin': ORIGIN, 'Access-Control-Request-Method': 'POST'}
    app = create_app(config)
    app.add_sink(accept, '/nothing')
    result = TestClient(app).simulate_options('/nothing', headers=headers)
    assert ALLOWED not in result.headers


@pytest.mark.parametrize(
    ('origins', 'allowed'),
    [
        ([ORIGIN], ORIGIN),
        (['https://b.example', ORIGIN], ORIGIN),
        (['https://b.example'], None),
    ],
)
def test_listed_origins(
    config: Config, origins: list[str], allowed: str | None
) -> None:
    headers = ask(config, origins).headers
    assert headers.get(ALLOWED) == allowed
    assert headers['vary'] == 'Accept, Origin'


def test_preflight(config: Config) -> None:
    result = ask(config, '*', 'OPTIONS', **{'Access-Control-Request-Method': 'POST'})
    assert result.status_code == 200
    assert 'POST' in result.headers['access-control-allow-methods']


def test_not_modified_varies_like_the_whole(config: Config, image: Json) -> None:
    config.cors_origins = [ORIGIN]
    client = TestClient(create_app(config))
    for uri, vary in (
        ('/images', 'Accept, Origin'),
        (image['image'], 'Origin'),
        (image['thumbnails'][0], 'Origin'),
        ('/', 'Origin'),
    ):
        for headers in {}, {'Origin': ORIGIN}, {'Origin': 'https://b.example'}:
            for _ in range(2):
                whole = client.simulate_get(uri, headers=headers)
            unmodified = client.simulate_get(
                uri, headers={**headers, 'If-None-Match': whole.headers['etag']}
            )
            assert unmodified.status_code == 304
            assert unmodified.headers['vary'] == whole.headers['vary'] == vary
            allowed = whole.headers.get(ALLOWED)
            assert unmodified.headers.get(ALLOWED) == allowed
            assert (allowed == ORIGIN) is (headers.get('Origin') == ORIGIN)
