from __future__ import annotations

import asyncio
from typing import Any

import pytest
from falcon.testing import ASGIConductor, TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import ImageExists
from asgilook.store import Store

from .. import samples
from ..conftest import files, problem

KEY = {'Idempotency-Key': '"3d8a0e6e"'}


def post(client: TestClient, headers: dict[str, str], **kwargs: Any) -> Any:
    kwargs = {'body': samples.photo(64, 64), **kwargs}
    return client.simulate_post('/images', headers=headers, **kwargs)


def test_retry_gets_the_first_response(config: Config, client: TestClient) -> None:
    first = post(client, KEY)
    assert first.status_code == 201
    other_worker = TestClient(create_app(config))
    for again in (client, client, other_worker):
        result = post(again, KEY)
        assert (result.status_code, result.json) == (201, first.json)
        assert result.headers['location'] == first.headers['location']
    assert len(files(config)) == 1
    assert client.simulate_get('/images').json == [first.json]


def test_key_may_be_unquoted(client: TestClient) -> None:
    quoted, unquoted, other = (
        post(client, {'Idempotency-Key': key}).json['id']
        for key in ('"a"', ' a ', '"b"')
    )
    assert quoted == unquoted != other


@pytest.mark.parametrize(
    'key', ['', '""', '"a', '"a"b"', r'"\a"', 'caf\xe9', 'x' * 256, f'"{"x" * 256}"']
)
def test_invalid_key(config: Config, client: TestClient, key: str) -> None:
    problem(post(client, {'Idempotency-Key': key}), 400)
    assert files(config) == set()


def test_longest_key(client: TestClient) -> None:
    for key in ('x' * 255, f'"{"x" * 255}"'):
        assert post(client, {'Idempotency-Key': key}).status_code == 201


def test_key_belongs_to_its_token(config: Config) -> None:
    config.api_token = 'a,b'
    client = TestClient(create_app(config))
    ids = {
        post(client, {**KEY, 'Authorization': f'Bearer {token}'}).json['id']
        for token in ('a', 'b')
    }
    assert len(ids) == 2


def test_rejected_upload_is_not_remembered(config: Config, client: TestClient) -> None:
    problem(post(client, KEY, body=b'no image'), 415)
    assert post(client, KEY).status_code == 201
    assert len(files(config)) == 1


def test_deleted_image_is_uploaded_again(config: Config) -> None:
    config.api_token = 'a'
    headers = {**KEY, 'Authorization': 'Bearer a'}
    client = TestClient(create_app(config))
    first = post(client, headers).json
    assert client.simulate_delete(first['image'], headers=headers).status_code == 204
    assert post(client, headers).json['id'] == first['id']


async def test_two_at_once_make_one_image(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is stored; the others wait for it, and are never decoded."""
    saved = []
    original = Store.save

    async def save(self: Store, image_id: str, upload: Any, **options: Any) -> Any:
        saved.append(image_id)
        return await original(self, image_id, upload, **options)

    monkeypatch.setattr(Store, 'save', save)
    async with ASGIConductor(create_app(config)) as conductor:
        posts = (
            conductor.simulate_post('/images', body=samples.photo(64, 64), headers=KEY)
            for _ in range(5)
        )
        results = await asyncio.gather(*posts)
        assert {result.status_code for result in results} == {201}
        images = [result.json for result in results]
    assert images == [images[0]] * 5
    assert saved == [images[0]['id']]
    assert files(config) == {images[0]['id']}


def test_another_worker_was_faster(
    config: Config, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Store.save

    async def save(self: Store, image_id: str, upload: Any, **options: Any) -> Any:
        assert options == {'once': True}
        await original(self, image_id, upload)
        raise ImageExists('There is another image of this id.')

    monkeypatch.setattr(Store, 'save', save)
    result = post(client, KEY)
    assert result.status_code == 201
    assert client.simulate_get('/images').json == [result.json]


def test_escaped_key(client: TestClient) -> None:
    escaped, plain = (
        post(client, {'Idempotency-Key': key}).json['id']
        for key in (r'"a\\b\"c"', r'a\b"c')
    )
    assert escaped == plain


def test_retry_that_waits_to_be_asked_for_its_body(client: TestClient) -> None:
    first = post(client, KEY).json
    headers = {**KEY, 'Expect': '100-continue'}
    result = post(client, headers, body=b'never read')
    assert (result.status_code, result.json) == (201, first)
