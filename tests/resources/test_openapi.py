from __future__ import annotations

import itertools
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import falcon.inspect
import pytest
import schemathesis
from falcon.testing import TestClient
from hypothesis import strategies
from schemathesis.engine import events, from_schema

import asgilook
from asgilook.app import create_app
from asgilook.config import Config

from .. import samples
from ..conftest import no_redis

# The image in the examples of the document, which gets deleted, and another one.
EXAMPLE = uuid.UUID('d5d1ac9f-dc8f-4531-a346-654505d860fa')
KEPT = uuid.UUID(int=7)

METHODS = {'get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'}


@pytest.fixture
def document(client: TestClient) -> Any:
    return client.simulate_get('/openapi.json').json


def references(value: Any) -> Iterator[str]:
    """Yield every reference in a value."""
    if isinstance(value, dict):
        if '$ref' in value:
            yield value['$ref']
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_get_and_head(client: TestClient) -> None:
    got = client.simulate_get('/openapi.json')
    head = client.simulate_head('/openapi.json')
    assert (got.status_code, head.status_code, head.content) == (200, 200, b'')
    assert got.headers == head.headers
    assert got.headers['Content-Type'] == 'application/json'
    assert got.headers['Cache-Control'] == 'public, max-age=3600'
    assert got.headers['X-Content-Type-Options'] == 'nosniff'


def test_document_has_the_version_of_the_package(document: Any) -> None:
    assert document['openapi'].startswith('3.1.')
    assert document['info']['version'] == asgilook.__version__


def test_document_lists_all_paths_and_methods(config: Config, document: Any) -> None:
    router = create_app(config)._router
    routes = falcon.inspect.inspect_compiled_router(router)
    served = {
        (re.sub(r':\w+}', '}', route.path), method.method.lower())
        for route in routes
        for method in route.methods
        if not method.internal and not route.path.startswith('/static/')
    }
    documented = {
        (path, method)
        for path, item in document['paths'].items()
        for method in METHODS & set(item)
    }
    assert documented == served


def test_operation_ids_are_unique(document: Any) -> None:
    names = Counter(
        item[method]['operationId']
        for item in document['paths'].values()
        for method in METHODS & set(item)
    )
    assert set(names.values()) == {1}


def test_every_component_is_used_and_every_reference_resolves(document: Any) -> None:
    components = {
        f'#/components/{kind}/{name}'
        for kind, named in document['components'].items()
        for name in named
        if kind != 'securitySchemes'
    }
    assert set(references(document)) == components


@pytest.fixture(scope='module')
def pictures() -> None:
    """Make schemathesis upload images instead of random bytes."""
    formats = ('JPEG', 'PNG', 'GIF', 'WEBP', 'AVIF', 'BMP', 'TIFF')
    for name in formats:
        picture = samples.encode(samples.scene(128, 128), name)
        strategy = strategies.sampled_from([picture])
        schemathesis.openapi.media_type(f'image/{name.lower()}', strategy)
    schemathesis.openapi.media_type('application/octet-stream', strategy)


def settings(token: str) -> schemathesis.Config:
    """Configure a short, reproducible run.

    Rejecting unknown values of valid headers and parameters is not an error.
    """
    checks = {'positive_data_acceptance': accepted('412', '416')}
    return schemathesis.Config.from_dict(
        {
            'seed': 1,
            'auth': {'openapi': {'token': {'bearer': token}}},
            'continue-on-failure': True,
            'checks': checks,
            'generation': {
                'max-examples': 8,
                'deterministic': True,
                'no-shrink': True,
                'database': 'none',
                'allow-extra-parameters': False,
            },
            'operations': [
                # The stream never ends.
                {'include-operation-id': 'getEvents', 'request-timeout': 0.2},
                # `after` may be the id of no image.
                {
                    'include-operation-id': ['listImages', 'headImages'],
                    'checks': {'positive_data_acceptance': accepted('400', '412')},
                },
                {
                    'include-operation-id': [
                        'getThumbnail',
                        'headThumbnail',
                        'getWebPThumbnail',
                        'headWebPThumbnail',
                    ],
                    'parameters': {'path.image_id': str(KEPT)},
                },
            ],
        }
    )


def accepted(*statuses: str) -> Any:
    """Return the expected statuses of valid requests."""
    return {'expected-statuses': ['2xx', '304', '401', '403', '404', *statuses]}


def failures(event: events.ScenarioFinished) -> list[str]:
    """Describe the failed checks, with the commands that reproduce them."""
    return [
        f'{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}'
        for checks in event.recorder.checks.values()
        for check in checks
        if check.failure_info is not None
    ]


@pytest.mark.usefixtures('pictures')
def test_schemathesis_finds_no_failures(config: Config) -> None:
    config.create_redis_pool = no_redis
    config.api_token = 's3cret'
    config.uuid_generator = ids()
    app = create_app(config)
    client = TestClient(app, headers={'Authorization': 'Bearer s3cret'})
    for image_id in (EXAMPLE, KEPT):
        image = client.simulate_post('/images', body=samples.photo(512, 256)).json
        assert image['id'] == str(image_id)

    schema = schemathesis.openapi.from_asgi(
        '/openapi.json', app, config=settings('s3cret')
    )
    seen: Counter[tuple[str, int]] = Counter()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            assert failures(event) == []
            seen.update(answers(event))
    assert {method for method, _ in seen} >= {'GET', 'HEAD', 'POST', 'DELETE'}
    statuses = {status for _, status in seen}
    assert statuses >= {200, 201, 204, 206, 304, 400, 401, 404, 405}


def answers(event: events.ScenarioFinished) -> list[tuple[str, int]]:
    """Return the method and status of each request."""
    return [
        (interaction.request.method, interaction.response.status_code)
        for interaction in event.recorder.interactions.values()
        if interaction.response is not None
    ]


def ids() -> Callable[[], uuid.UUID]:
    """Return a generator of ids: the example, the kept image, then others."""
    numbers = itertools.chain([EXAMPLE.int, KEPT.int], itertools.count(1000))
    return lambda: uuid.UUID(int=next(numbers))
