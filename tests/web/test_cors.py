from __future__ import annotations

from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config

ORIGIN = 'https://a.example'
ALLOWED = 'access-control-allow-origin'


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
    exposed = headers['access-control-expose-headers'].split(', ')
    assert {'ETag', 'Link', 'Location'} <= set(exposed)


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
