from __future__ import annotations

import falcon.asgi
import pytest
from falcon.testing import create_asgi_req

from asgilook.errors import InvalidRequest
from asgilook.models import UUID
from asgilook.web.idempotency import (
    MAX_KEY_LENGTH,
    derive_image_id,
    get_idempotency_key,
)


def request(value: str | None) -> falcon.asgi.Request:
    headers = {} if value is None else {'Idempotency-Key': value}
    return create_asgi_req(method='POST', headers=headers)


@pytest.mark.parametrize(
    ('value', 'key'),
    [
        (None, None),
        ('"8e03978e-40d5"', '8e03978e-40d5'),
        ('8e03978e-40d5', '8e03978e-40d5'),
        ('  "a b" ', 'a b'),
        ('a b', 'a b'),
        (r'"a\"b\\c"', r'a"b\c'),
        ('"' + 'k' * MAX_KEY_LENGTH + '"', 'k' * MAX_KEY_LENGTH),
        ('k' * MAX_KEY_LENGTH, 'k' * MAX_KEY_LENGTH),
    ],
)
def test_key(value: str | None, key: str | None) -> None:
    assert get_idempotency_key(request(value)) == key


@pytest.mark.parametrize(
    'value',
    [
        '',
        '""',
        '"',
        '"a',
        'a"b"c"' + 'k' * MAX_KEY_LENGTH,
        '"a"b"',
        r'"\a"',
        '"a","b"',
        'caf\xe9',
        'a\tb',
        '"' + 'k' * (MAX_KEY_LENGTH + 1) + '"',
        'k' * (MAX_KEY_LENGTH + 1),
    ],
)
def test_invalid_key(value: str) -> None:
    with pytest.raises(InvalidRequest, match='Idempotency-Key'):
        get_idempotency_key(request(value))


def test_image_id_depends_on_key_and_token() -> None:
    image_id = derive_image_id('key', 'token')
    assert UUID.fullmatch(image_id)
    assert image_id[14] == '8'
    others = [('key', ''), ('token', 'key'), ('nkey', 'toke'), ('key2', 'token')]
    assert image_id not in {derive_image_id(*other) for other in others}
    assert derive_image_id('key', 'token') == image_id
