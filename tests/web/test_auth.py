from __future__ import annotations

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.web.auth import is_valid

from ..conftest import problem


@pytest.mark.parametrize(
    ('given', 'tokens', 'valid'),
    [
        ('a', 'a', True),
        ('a', 'a,b', True),
        ('b', 'a, b', True),
        ('c', 'a,b', False),
        ('a,b', 'a,b', False),
        ('', 'a,', False),
        ('', ',', False),
        ('', '', False),
        ('\u00e9', 'a,\u00e9', True),
    ],
)
def test_token_is_one_of_several(given: str, tokens: str, valid: bool) -> None:
    assert is_valid(given, tokens) is valid


def test_missing_and_wrong_token_get_different_details(config: Config) -> None:
    config.api_token = 'a,b'
    client = TestClient(create_app(config))
    details = {
        problem(client.simulate_post('/images', headers=headers), 401)
        for headers in ({}, {'Authorization': 'Bearer c'})
    }
    assert details == {
        'A bearer token is required: send `Authorization: Bearer TOKEN`.',
        'This bearer token is not valid.',
    }
    for token in 'ab':
        headers = {'Authorization': f'Bearer {token}'}
        problem(client.simulate_post('/images', headers=headers), 400)
