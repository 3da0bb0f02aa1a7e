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

# The image of the document's examples, which is deleted on the way, and another one.
EXAMPLE = uuid.UUID('d5d1ac9f-dc8f-4531-a346-654505d860fa')
KEPT = uuid.UUID(int=7)

METHODS = {'get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'}


@pytest.fixture
def document(client: TestClient) -> Any:
    return client.simulate_get('/openapi.json').json


def references(value: Any) -> Iterator[str]:
    """Yield all that is referred to below a value."""
    if isinstance(value, dict):
        if '$ref' in value:
            yield value['$ref']
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_document(client: TestClient) -> None:
    got = client.simulate_get('/openapi.json')
    head = client.simulate_head('/openapi.json')
    assert (got.status_code, head.status_code, head.content) == (200, 200, b'')
    assert got.headers == head.headers
    assert got.headers['Content-Type'] == 'application/json'
    assert got.headers['Cache-Control'] == 'public, max-age=3600'
    assert got.headers['X-Content-Type-Options'] == 'nosniff'


def test_document_is_of_this_version(document: Any) -> None:
    assert document['openapi'].startswith('3.1.')
    assert document['info']['version'] == asgilook.__version__


def test_document_has_the_paths_and_methods_of_the_service(
    config: Config, document: Any
) -> None:
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


def test_document_names_each_operation_once(document: Any) -> None:
    names = Counter(
        item[method]['operationId']
        for item in document['paths'].values()
        for method in METHODS & set(item)
    )
    assert set(names.values()) == {1}


def test_document_refers_to_all_of_its_components_and_no_others(document: Any) -> None:
    components = {
        f'#/components/{kind}/{name}'
        for kind, named in document['components'].items()
        for name in named
        if kind != 'securitySchemes'
    }
    assert set(references(document)) == components


@pytest.fixture(scope='module')
def pictures() -> None:
    """Let schemathesis upload pictures, and not what it takes for them."""
    formats = ('JPEG', 'PNG', 'GIF', 'WEBP', 'AVIF', 'BMP', 'TIFF')
    for name in formats:
        picture = samples.encode(samples.scene(128, 128), name)
        strategy = strategies.sampled_from([picture])
        schemathesis.openapi.media_type(f'image/{name.lower()}', strategy)
    schemathesis.openapi.media_type('application/octet-stream', strategy)


def settings(token: str) -> schemathesis.Config:
    """Configure a short run which is the same each time.

    What the service answers to headers and parameters that name nothing is no fault.
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
                # A stream has no end.
                {'include-operation-id': 'getEvents', 'request-timeout': 0.2},
                # `after` may name no image.
                {
                    'include-operation-id': ['listImages', 'headImages'],
                    'checks': {'positive_data_acceptance': accepted('400', '412')},
                },
                {
                    'include-operation-id': ['getThumbnail', 'headThumbnail'],
                    'parameters': {'path.image_id': str(KEPT)},
                },
            ],
        }
    )


def accepted(*statuses: str) -> Any:
    """Name what may be answered to sound requests."""
    return {'expected-statuses': ['2xx', '304', '401', '403', '404', *statuses]}


def failures(event: events.ScenarioFinished) -> list[str]:
    """Describe what has failed, with the command that shows it again."""
    return [
        f'{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}'
        for checks in event.recorder.checks.values()
        for check in checks
        if check.failure_info is not None
    ]


@pytest.mark.usefixtures('pictures')
def test_schemathesis_finds_no_fault(config: Config) -> None:
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
    answered: Counter[tuple[str, int]] = Counter()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            assert failures(event) == []
            answered.update(answers(event))
    assert {method for method, _ in answered} >= {'GET', 'HEAD', 'POST', 'DELETE'}
    statuses = {status for _, status in answered}
    assert statuses >= {200, 201, 204, 206, 304, 400, 401, 404, 405}


def answers(event: events.ScenarioFinished) -> list[tuple[str, int]]:
    """Return method and status of each request."""
    return [
        (interaction.request.method, interaction.response.status_code)
        for interaction in event.recorder.interactions.values()
        if interaction.response is not None
    ]


def ids() -> Callable[[], uuid.UUID]:
    """Return a generator of ids: the example, the kept one, and others."""
    numbers = itertools.chain([EXAMPLE.int, KEPT.int], itertools.count(1000))
    return lambda: uuid.UUID(int=next(numbers))
