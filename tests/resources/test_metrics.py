from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from falcon.asgi import App
from falcon.testing import ASGIConductor, Result, TestClient
from prometheus_client.parser import text_string_to_metric_families

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import ImageDamaged
from asgilook.imaging import transform
from asgilook.metrics import Metrics
from asgilook.resources.http_metrics import HttpMetrics
from asgilook.resources.metrics import MetricsResource
from asgilook.store import Store
from asgilook.web.record import Record

from .. import samples
from ..conftest import Json, Upload, serve
from ..servers import Server

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]

IMAGES, IMAGE = '/images', '/images/{image_id}.jpeg'
THUMBNAIL = '/thumbnails/{image_id}/{size}.jpeg'


class Scraped:
    """Samples as Prometheus reads them, without the label `worker`."""

    def __init__(self, text: str) -> None:
        self.workers: set[str] = set()
        self.types: dict[str, str] = {}
        self._samples: dict[Any, float] = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            assert family.documentation
            for sample in family.samples:
                labels = dict(sample.labels)
                self.workers.add(labels.pop('worker'))
                key = sample.name, frozenset(labels.items())
                assert key not in self._samples
                self._samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Return a sample; 0 where there is none."""
        return self._samples.get((name, frozenset(labels.items())), 0)

    def total(self, name: str, **labels: str) -> float:
        """Add up the samples that have these labels."""
        return sum(
            value
            for (found, items), value in self._samples.items()
            if found == name and labels.items() <= set(items)
        )

    def label_values(self, name: str, label: str) -> set[str]:
        """Return what a label of a metric has for values."""
        return {dict(items)[label] for found, items in self._samples if found == name}

    def requests(self, method: str, route: str, status: int) -> float:
        """Return how many requests were counted."""
        labels = {'method': method, 'route': route, 'status': str(status)}
        return self.value('asgilook_http_requests_total', **labels)


def scrape(client: TestClient) -> Scraped:
    """Ask for the metrics, and read them."""
    return Scraped(client.simulate_get('/metrics').text)


def test_content_type(client: TestClient) -> None:
    got, head = client.simulate_get('/metrics'), client.simulate_head('/metrics')
    assert (got.status_code, head.status_code) == (200, 200)
    expected = 'text/plain; version=0.0.4; charset=utf-8'
    assert got.headers['Content-Type'] == expected
    assert got.headers['Cache-Control'] == 'no-store'
    assert head.headers['Content-Type'] == expected
    assert head.content == b''


@pytest.mark.parametrize(
    'accept', ['application/openmetrics-text; version=x', 'image/*', 'text/plain;q=0']
)
def test_format_is_the_same_for_all(client: TestClient, accept: str) -> None:
    answer = client.simulate_get('/metrics', headers={'Accept': accept})
    assert answer.status_code == 200
    assert answer.headers['Content-Type'].startswith('text/plain; version=0.0.4')
    Scraped(answer.text)


def test_names_and_types(client: TestClient, image: Json) -> None:
    client.simulate_get(image['image'])
    types = scrape(client).types
    ours = {name: kind for name, kind in types.items() if name.startswith('asgilook')}
    assert {
        name: kind for name, kind in ours.items() if not name.endswith('_created')
    } == {
        'asgilook_http_requests': 'counter',
        'asgilook_http_request_duration_seconds': 'histogram',
        'asgilook_http_response_bytes': 'counter',
        'asgilook_cache_results': 'counter',
        'asgilook_job_duration_seconds': 'histogram',
        'asgilook_queue_length': 'gauge',
        'asgilook_refusals': 'counter',
        'asgilook_uploads': 'counter',
    }
    assert types['process_resident_memory_bytes'] == 'gauge'


def test_requests_by_route_method_and_status(
    client: TestClient, upload: Upload
) -> None:
    image = upload()
    etag = client.simulate_get(image['image']).headers['ETag']
    client.simulate_get(image['image'])
    client.simulate_get(image['image'], headers={'If-None-Match': etag})
    client.simulate_get(image['image'], headers={'If-Match': '"other"'})
    client.simulate_get(image['image'], headers={'Range': 'bytes=0-9'})
    client.simulate_head(image['image'])
    for uri in image['thumbnails']:
        client.simulate_get(uri)
    client.simulate_get(image['thumbnails'][0].replace('256', '255'))
    client.simulate_get('/images', params={'limit': 'x'})
    client.simulate_options('/images')
    client.simulate_patch('/images')
    client.simulate_delete(image['image'])

    scraped = scrape(client)
    assert scraped.requests('POST', IMAGES, 201) == 1
    assert scraped.requests('GET', IMAGES, 400) == 1
    assert scraped.requests('OPTIONS', IMAGES, 200) == 1
    assert scraped.requests('PATCH', IMAGES, 405) == 1
    assert scraped.requests('GET', IMAGE, 200) == 2
    assert scraped.requests('GET', IMAGE, 304) == 1
    assert scraped.requests('GET', IMAGE, 412) == 1
    assert scraped.requests('GET', IMAGE, 206) == 1
    assert scraped.requests('HEAD', IMAGE, 200) == 1
    assert scraped.requests('DELETE', IMAGE, 403) == 1
    assert scraped.requests('GET', THUMBNAIL, 200) == 2
    assert scraped.requests('GET', THUMBNAIL, 404) == 1
    assert scraped.total('asgilook_http_requests_total') == 14
    assert scraped.workers == {str(os.getpid())}
    assert scrape(client).requests('GET', '/metrics', 200) == 1


def test_requests_that_name_nothing(client: TestClient) -> None:
    """However many there are, they add no label."""
    for number in range(3):
        for path in (f'/{number}', f'//images/{number}', f'/images/{number}.jpeg'):
            assert client.simulate_get(path).status_code == 404
        client.simulate_request(f'BREW{number}', '/images')
    scraped = scrape(client)
    assert scraped.requests('GET', 'other', 404) == 9
    assert scraped.total('asgilook_http_requests_total', method='other') == 3
    assert scraped.total('asgilook_http_requests_total') == 12
    routes = scraped.label_values('asgilook_http_requests_total', 'route')
    assert routes <= {'other', IMAGES}


def test_bytes(client: TestClient, image: Json) -> None:
    sizes = [len(client.simulate_get(image['image']).content) for _ in range(2)]
    client.simulate_head(image['image'])
    client.simulate_get(image['image'], headers={'Range': 'bytes=0-9'})
    scraped = scrape(client)
    name = 'asgilook_http_response_bytes_total'
    assert scraped.total(name, route=IMAGE, method='GET') == sum(sizes) + 10
    assert scraped.total(name, route=IMAGE, method='HEAD') == 0


def test_bytes_of_a_stream(config: Config, photo: bytes) -> None:
    config.cache_body_size = 0
    client = TestClient(create_app(config))
    image = client.simulate_post('/images', body=photo).json
    size = len(client.simulate_get(image['image']).content)
    assert size > 0
    name = 'asgilook_http_response_bytes_total'
    assert scrape(client).total(name, route=IMAGE) == size


def record(
    method: str, route: str | None, status: int, *, seconds: float = 0.1
) -> Record:
    """Return the record of a request that has been answered."""
    scope = {'method': method, 'path': '/', 'query_string': b'', 'headers': []}
    record = Record(scope)
    record.route, record.status, record.seconds = route, status, seconds
    return record


def test_durations() -> None:
    metrics = MetricsResource(Metrics())
    for status, seconds in ((200, 0.0001), (200, 0.02), (404, 0.026), (200, 3600.0)):
        metrics.http.count(record('GET', '/x', status, seconds=seconds))
    scraped = Scraped(render(metrics))
    name = 'asgilook_http_request_duration_seconds'
    labels = {'route': '/x', 'method': 'GET'}
    assert scraped.value(f'{name}_count', **labels) == 4
    assert scraped.value(f'{name}_sum', **labels) == pytest.approx(3600.0461)
    for bound, count in (
        ('0.0001', 1),
        ('0.01', 1),
        ('0.025', 2),
        ('0.05', 3),
        ('30.0', 3),
        ('+Inf', 4),
    ):
        assert scraped.value(f'{name}_bucket', le=bound, **labels) == count


def render(metrics: MetricsResource) -> str:
    """Return what a scrape of these metrics gets."""
    app: App[Any, Any] = App()
    app.add_route('/metrics', metrics)
    return str(TestClient(app).simulate_get('/metrics').text)


def test_labels_are_escaped() -> None:
    metrics = MetricsResource(Metrics())
    metrics.http.count(record('GET', '/"\\\n', 200))
    scraped = Scraped(render(metrics))
    assert scraped.requests('GET', '/"\\\n', 200) == 1


def test_cache_results_by_tier(config: Config, image: Json) -> None:
    cold = TestClient(create_app(config))
    page = '/images?limit=1'
    for path in (image['image'], image['thumbnails'][0], '/images', page, '/'):
        for _ in range(3):
            cold.simulate_get(path)
    config.cache_memory = 0
    other = TestClient(create_app(config))
    etag = other.simulate_get(image['image']).headers['ETag']
    other.simulate_get(image['image'], headers={'If-None-Match': etag})

    name = 'asgilook_cache_results_total'
    scraped = scrape(cold)
    for route in (IMAGES, IMAGE, THUMBNAIL):
        assert scraped.value(name, route=route, result='miss') == 1
        assert scraped.value(name, route=route, result='memory') == 2
    assert scraped.total(name) == 9
    assert scrape(other).value(name, route=IMAGE, result='redis') == 1
    assert scrape(other).total(name) == 1


def test_jobs_and_formats(client: TestClient, upload: Upload) -> None:
    image = upload()
    upload(samples.photo(64, 64))
    upload(samples.encode(samples.scene(64, 64), 'PNG'))
    for body in (b'', b'no image', samples.photo(64, 64)[:100]):
        client.simulate_post('/images', body=body)
    for uri in image['thumbnails'] * 3:
        client.simulate_get(uri)
    scraped = scrape(client)
    assert scraped.value('asgilook_uploads_total', format='jpeg') == 2
    assert scraped.value('asgilook_uploads_total', format='png') == 1
    assert scraped.total('asgilook_uploads_total') == 3
    name = 'asgilook_job_duration_seconds'
    assert scraped.value(f'{name}_count', kind='upload') == 5
    assert scraped.value(f'{name}_count', kind='thumbnail') == 2
    assert 0 < scraped.value(f'{name}_sum', kind='thumbnail') < 10


def test_queue(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.threads, config.queue_size = 1, 2
    over = threading.Event()

    def convert(*args: Any, **kwargs: Any) -> Any:
        over.wait(30)
        raise ImageDamaged

    monkeypatch.setattr(transform, 'to_jpeg', convert)

    async def scenario(conductor: ASGIConductor) -> None:
        async def scraped() -> Scraped:
            return Scraped((await conductor.simulate_get('/metrics')).text)

        async def upload() -> Result:
            return await conductor.simulate_post('/images', body=b'x')

        uploads = [asyncio.create_task(upload()) for _ in range(3)]
        async with asyncio.timeout(30):
            while (await scraped()).value('asgilook_queue_length') < 2:
                pass
        for _ in range(4):
            assert (await upload()).status_code == 503
        assert (await scraped()).value('asgilook_refusals_total') == 4
        over.set()
        assert {(await task).status_code for task in uploads} == {422}
        assert (await scraped()).value('asgilook_queue_length') == 0
        assert (await scraped()).requests('POST', IMAGES, 503) == 4

    serve(create_app(config), scenario)


def test_apps_count_for_themselves(config: Config, client: TestClient) -> None:
    client.simulate_get('/images')
    other = scrape(TestClient(create_app(config)))
    assert other.total('asgilook_http_requests_total') == 0


def test_store_without_metrics(config: Config, photo: bytes) -> None:
    async def main() -> None:
        store = Store(config)
        await store.start()
        async with store.upload() as file:
            await file.write(photo)
            image = await store.save('00000000-0000-0000-0000-000000000001', file)
        assert await store.make_thumbnail(image, (256, 128))
        await store.stop()

    asyncio.run(main())


def test_label_sets_are_bounded() -> None:
    metrics = HttpMetrics()
    for number in range(1000):
        metrics.count(record(f'M{number}', None, 404))
    (requests, *_) = metrics.collect()
    assert [(sample.labels, sample.value) for sample in requests.samples] == [
        ({'route': 'other', 'method': 'other', 'status': '404'}, 1000)
    ]


def test_counters_agree_with_the_load_on_two_workers(tmp_path: Path) -> None:
    with Server(tmp_path, '--workers', '2') as server:
        image = server.upload(samples.photo(200, 200))
        paths = [image['image'], *image['thumbnails'], '/images', '/nothing'] * 20
        with ThreadPoolExecutor(8) as executor:
            answers = list(executor.map(server.get, paths))
        scrapes = [
            Scraped(answer.body.decode())
            for answer in server.on_each_worker(lambda: server.get('/metrics'))
        ]
        workers = [scraped.workers for scraped in scrapes]
        assert sorted(workers) == sorted({str(pid)} for pid in server.workers)

    def total(name: str, **labels: str) -> float:
        return sum(scraped.total(name, **labels) for scraped in scrapes)

    requests = 'asgilook_http_requests_total'
    assert total(requests, route=IMAGE, status='200') == 20
    assert total(requests, route=THUMBNAIL, status='200') == 20
    assert total(requests, route=IMAGES, method='GET', status='200') == 20
    assert total(requests, route='other', status='404') == 20
    assert total(requests, method='POST', status='201') == 1
    sent = sum(len(answer.body) for answer in answers)
    assert total('asgilook_http_response_bytes_total', method='GET') == sent
    counted = total('asgilook_http_request_duration_seconds_count', method='GET')
    assert counted == len(paths)
    hits = sum(answer.status == 200 and answer.hit for answer in answers)
    results = 'asgilook_cache_results_total'
    assert total(results) - total(results, result='miss') == hits
