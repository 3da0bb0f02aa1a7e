from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import StorageUnavailable
from asgilook.index.folder import FolderIndex
from asgilook.models import Image
from asgilook.web import shortcut
from asgilook.web.conditional import Conditional

from .. import samples


@pytest.fixture
def falcon_asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths of requests that Falcon has had to answer."""
    asked: list[str] = []
    original = Conditional.process_request

    async def process_request(self: Any, req: Any, resp: Any) -> None:
        asked.append(req.path)
        await original(self, req, resp)

    monkeypatch.setattr(Conditional, 'process_request', process_request)
    return asked


@pytest.fixture
def client(falcon_asked: list[str], config: Config) -> TestClient:
    return TestClient(create_app(config))


def learned(client: TestClient, width: int = 300) -> tuple[str, Any]:
    """Upload an image; return its URL, and its answer when it is a hit."""
    image = client.simulate_post('/images', body=samples.photo(width, 200)).json
    for _ in range(3):
        hit = client.simulate_get(image['image'])
    assert hit.headers['x-asgilook-cache'] == 'Hit'
    return str(image['image']), hit


def test_hit_is_answered_again(client: TestClient, falcon_asked: list[str]) -> None:
    uri, hit = learned(client)
    falcon_asked.clear()
    again = client.simulate_get(uri)
    assert falcon_asked == []
    assert again.content == hit.content
    assert again.headers == hit.headers
    assert again.status_code == 200


def test_hit_from_redis_is_answered_again(
    config: Config, falcon_asked: list[str]
) -> None:
    config.cache_memory = 0
    client = TestClient(create_app(config))
    uri, hit = learned(client)
    falcon_asked.clear()
    again = client.simulate_get(uri)
    assert falcon_asked == []
    assert (again.content, again.headers) == (hit.content, hit.headers)
    assert 'detail=redis' in again.headers['cache-status']


def test_not_modified_is_answered(client: TestClient, falcon_asked: list[str]) -> None:
    uri, hit = learned(client)
    etag = hit.headers['etag']
    expected = client.simulate_get(uri, headers={'If-None-Match': f'W/{etag}'})
    falcon_asked.clear()
    result = client.simulate_get(uri, headers={'If-None-Match': etag})
    assert falcon_asked == []
    assert (result.status_code, result.content) == (304, b'')
    assert result.headers == expected.headers
    other = client.simulate_get(uri, headers={'If-None-Match': '"other"'})
    assert (other.status_code, other.content) == (200, hit.content)


@pytest.mark.parametrize(
    ('method', 'query', 'headers', 'status'),
    [
        ('HEAD', '', {}, 200),
        ('PUT', '', {}, 405),
        ('GET', 'x=1', {}, 200),
        ('GET', '', {'Range': 'bytes=0-1'}, 206),
        ('GET', '', {'If-Match': '"other"'}, 412),
        ('GET', '', {'Origin': 'https://a.example'}, 200),
        ('GET', '', {'X-Request-ID': 'mine'}, 200),
    ],
)
def test_other_requests_are_falcons(
    client: TestClient,
    falcon_asked: list[str],
    method: str,
    query: str,
    headers: dict[str, str],
    status: int,
) -> None:
    uri, _ = learned(client)
    falcon_asked.clear()
    result = client.simulate_request(method, uri, query_string=query, headers=headers)
    assert result.status_code == status
    assert falcon_asked == [uri]


def test_removed_image_is_answered_no_more(config: Config, client: TestClient) -> None:
    uri, hit = learned(client)
    path(config, uri).unlink()
    for headers in {}, {'If-None-Match': hit.headers['etag']}:
        assert client.simulate_get(uri, headers=headers).status_code == 404


def test_replaced_image_is_answered_anew(config: Config, client: TestClient) -> None:
    uri, hit = learned(client)
    path(config, uri).write_bytes(samples.photo(150, 100))
    for state in 'Miss', 'Hit', 'Hit':
        result = client.simulate_get(uri)
        assert samples.decode(result.content).size == (150, 100)
        assert result.headers['x-asgilook-cache'] == state
    assert result.headers['etag'] != hit.headers['etag']


def test_image_of_an_unknown_state_is_falcons(
    client: TestClient, falcon_asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(index: FolderIndex, image: Image) -> bool:
        raise StorageUnavailable('Not now.')

    uri, hit = learned(client)
    falcon_asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(FolderIndex, 'is_current', fail)
        assert client.simulate_get(uri).content == hit.content
    assert falcon_asked == [uri]
    assert client.simulate_get(uri).content == hit.content
    assert falcon_asked == [uri]


def test_evicted_body_is_falcons(config: Config, falcon_asked: list[str]) -> None:
    config.cache_memory = 30_000
    config.create_redis_pool = no_redis
    client = TestClient(create_app(config))
    uri, hit = learned(client)
    for width in range(301, 306):
        learned(client, width)
    falcon_asked.clear()
    result = client.simulate_get(uri)
    assert falcon_asked == [uri]
    assert result.headers['x-asgilook-cache'] == 'Miss'
    assert result.content == hit.content


async def no_redis(address: Any) -> None:
    return None


def test_urls_past_those_that_are_known(
    client: TestClient, falcon_asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, '_MOST', 2)
    answers = [learned(client, 300 + number) for number in range(3)]
    for uri, hit in answers:
        falcon_asked.clear()
        assert client.simulate_get(uri).content == hit.content
        assert falcon_asked == ([] if uri == answers[-1][0] else [uri])
        if uri == answers[0][0]:
            monkeypatch.setattr(shortcut, '_MOST', 9)


def path(config: Config, uri: str) -> Path:
    """Return where the image of a URL is stored."""
    return Path(config.storage_path) / uri.rpartition('/')[2].removesuffix('.jpeg')
