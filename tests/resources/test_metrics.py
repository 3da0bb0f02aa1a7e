from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from falcon.testing import ASGIConductor, Result, TestClient
from prometheus_client import values
from prometheus_client.exposition import generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families

from asgilook import __version__
from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import ImageDamaged
from asgilook.imaging import transform
from asgilook.metrics.registry import Metrics
from asgilook.store import Store

from .. import samples
from ..conftest import Json, Upload, no_redis
from ..servers import Server
from .test_health import reject_connection

REQUEST = {'route': '/x', 'method': 'GET', 'status': '200'}

IMAGES, IMAGE = '/images', '/images/{image_id}.jpeg'
THUMBNAIL = '/thumbnails/{image_id}/{size}.jpeg'


class Scraped:
    """Samples as Prometheus reads them."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            assert family.documentation
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Return a sample; 0 where there is none."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def total(self, name: str, **labels: str) -> float:
        """Add up the samples that have these labels."""
        return sum(
            value
            for (found, items), value in self.samples.items()
            if found == name and labels.items() <= set(items)
        )

    def label_values(self, name: str, label: str) -> set[str]:
        """Return the values of a label of a metric."""
        return {dict(items)[label] for found, items in self.samples if found == name}

    def requests(self, method: str, route: str, status: int) -> float:
        """Return the number of requests that were counted."""
        labels = {'method': method, 'route': route, 'status': str(status)}
        return self.value('asgilook_http_requests_total', **labels)


def scrape(client: TestClient) -> Scraped:
    """Request the metrics, and parse them."""
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
    assert ours == {
        'asgilook_build_info': 'gauge',
        'asgilook_images': 'gauge',
        'asgilook_storage_free_bytes': 'gauge',
        'asgilook_up': 'gauge',
        'asgilook_http_requests': 'counter',
        'asgilook_http_request_duration_seconds': 'histogram',
        'asgilook_http_response_bytes': 'counter',
        'asgilook_cache_results': 'counter',
        'asgilook_job_duration_seconds': 'histogram',
        'asgilook_preview_duration_seconds': 'histogram',
        'asgilook_queue_length': 'gauge',
        'asgilook_event_streams_dropped': 'counter',
        'asgilook_events_invalid': 'counter',
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
    assert scrape(client).requests('GET', '/metrics', 200) == 1


def test_unknown_paths_and_methods_share_one_label(client: TestClient) -> None:
    for number in range(3):
        for path in (f'/{number}', f'//images/{number}', f'/images/{number}.jpeg'):
            assert client.simulate_get(path).status_code == 404
        near = client.simulate_get(f'/images/{uuid.UUID(int=number)}')
        assert 'did you mean' in near.json['detail']
        client.simulate_request(f'BREW{number}', '/images')
    scraped = scrape(client)
    assert scraped.requests('GET', 'other', 404) == 12
    assert scraped.total('asgilook_http_requests_total', method='other') == 3
    assert scraped.total('asgilook_http_requests_total') == 15
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


def test_durations() -> None:
    metrics = Metrics()
    for status, seconds in ((200, 0.0001), (200, 0.02), (404, 0.026), (200, 3600.0)):
        metrics.requests.count('/x', 'GET', status, None, 0, seconds)
    scraped = Scraped(generate_latest(metrics.registry).decode())
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


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.requests.count('/"\\\n', 'GET', 200, None, 7, 0)
    scraped = Scraped(generate_latest(metrics.registry).decode())
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


async def test_queue(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.threads, config.queue_size = 1, 2
    over = threading.Event()

    def convert(*args: Any, **kwargs: Any) -> Any:
        over.wait(60)
        raise ImageDamaged

    monkeypatch.setattr(transform, 'to_jpeg', convert)

    async def scraped() -> Scraped:
        return Scraped((await conductor.simulate_get('/metrics')).text)

    async def upload() -> Result:
        return await conductor.simulate_post('/images', body=b'x')

    async with ASGIConductor(create_app(config)) as conductor:
        uploads = [asyncio.create_task(upload()) for _ in range(3)]
        async with asyncio.timeout(60):
            while (await scraped()).value('asgilook_queue_length') < 2:
                pass
        for _ in range(4):
            assert (await upload()).status_code == 503
        assert (await scraped()).value('asgilook_refusals_total') == 4
        over.set()
        assert {(await task).status_code for task in uploads} == {422}
        assert (await scraped()).value('asgilook_queue_length') == 0
        assert (await scraped()).requests('POST', IMAGES, 503) == 4


def test_apps_count_for_themselves(config: Config, client: TestClient) -> None:
    client.simulate_get('/images')
    other = scrape(TestClient(create_app(config)))
    assert other.total('asgilook_http_requests_total') == 0


async def test_store_without_metrics(config: Config, photo: bytes) -> None:
    store = Store(config)
    await store.start()
    async with store.upload() as file:
        await file.write(photo)
        image = await store.save('00000000-0000-0000-0000-000000000001', file)
    assert await store.make_thumbnail(image, (256, 128))
    await store.stop()


def test_label_sets_are_bounded() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.requests.count('other', f'M{number}', 404, None, 1, 0.1)
    scraped = Scraped(generate_latest(metrics.registry).decode())
    assert scraped.requests('other', 'other', 404) == 1000
    assert scraped.label_values('asgilook_http_requests_total', 'method') == {'other'}


def test_build_info(client: TestClient) -> None:
    assert scrape(client).value('asgilook_build_info', version=__version__) == 1


@pytest.mark.parametrize('database', [None, 'sqlite'])
def test_number_of_images(
    config: Config, request: pytest.FixtureRequest, photo: bytes, database: str | None
) -> None:
    config.database_url = database and request.getfixturevalue(database)
    client = TestClient(create_app(config))
    for _ in range(2):
        client.simulate_post('/images', body=photo)
    assert scrape(TestClient(create_app(config))).value('asgilook_images') == 2


async def test_unknown_numbers_are_left_out(config: Config, photo: bytes) -> None:
    """The other metrics are there even if the storage folder is missing."""
    folder, elsewhere = config.storage_path, f'{config.storage_path}.away'
    async with ASGIConductor(create_app(config)) as conductor:
        os.rename(folder, elsewhere)
        answer = await conductor.simulate_get('/metrics')
        assert answer.status_code == 200
        scraped = Scraped(answer.text)
    assert not {'asgilook_images', 'asgilook_storage_free_bytes'} & {*scraped.types}
    assert scraped.value('asgilook_up', component='storage') == 0
    assert scraped.value('asgilook_up', component='redis') == 1
    assert 'process_open_fds' in scraped.types


def test_free_bytes(config: Config, client: TestClient) -> None:
    free = scrape(client).value('asgilook_storage_free_bytes')
    total = shutil.disk_usage(config.storage_path).total
    assert 0 < free < total


@pytest.mark.parametrize(
    ('connect', 'expected'), [(no_redis, set()), (reject_connection, {0.0})]
)
def test_components(
    config: Config, connect: Callable[[Any], Awaitable[Any]], expected: set[float]
) -> None:
    """A component that is not configured has no series."""
    config.create_redis_pool = connect
    scraped = scrape(TestClient(create_app(config)))
    assert scraped.value('asgilook_up', component='storage') == 1
    components = scraped.label_values('asgilook_up', 'component')
    assert components == {'storage'} | ({'redis'} if expected else set())
    assert scraped.value('asgilook_up', component='redis') == 0


@pytest.fixture
def shared_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let this process count in files of a folder, which it returns."""
    folder = tmp_path / 'metrics'
    monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', str(folder))
    # The library chooses this when it is imported.
    in_files = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(values, 'ValueClass', in_files)
    yield folder
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]


def place_worker(folder: Path, pid: int, *, living: bool) -> None:
    """Leave the files of another worker: 100 requests and 3 jobs in the queue."""
    for kind, name, labels, value in (
        ('counter', 'asgilook_http_requests', REQUEST, 100),
        ('gauge_livesum', 'asgilook_queue_length', {}, 3),
    ):
        file = MmapedDict(str(folder / f'{kind}_{pid}.db'))  # type: ignore[no-untyped-call]
        suffix = '_total' if kind == 'counter' else ''
        key = mmap_key(name, name + suffix, [*labels], [*labels.values()], 'x')
        file.write_value(key, value, 0)  # type: ignore[no-untyped-call]
        file.close()  # type: ignore[no-untyped-call]
    if living:
        lock = os.open(folder / f'counter_{pid}.db', os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_workers_are_added_up(
    config: Config, shared_metrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One app counts in files; those of a dead and of a living worker are there too."""
    app = create_app(config)
    for pid, living in ((-1, False), (-2, True)):
        place_worker(shared_metrics, pid, living=living)
    scraped = scrape(TestClient(app))
    assert scraped.value('asgilook_http_requests_total', **REQUEST) == 200
    assert scraped.value('asgilook_queue_length') == 3
    assert scraped.value('asgilook_workers') == 2
    assert scraped.value('asgilook_build_info', version=__version__) == 1
    assert 'process_cpu_seconds' not in scraped.types  # there is no supervisor
    client = TestClient(app)
    assert client.simulate_get('/images').status_code == 200
    assert scrape(client).requests('GET', IMAGES, 200) == 1

    supervisor = SimpleNamespace(pid=os.getppid())
    monkeypatch.setattr(multiprocessing, 'parent_process', lambda: supervisor)
    assert scrape(client).value('process_cpu_seconds_total') >= time.process_time() - 1


@pytest.mark.integration
def test_all_workers_answer_with_the_same_numbers(tmp_path: Path) -> None:
    with Server(tmp_path, '--workers', '2') as server:
        image = server.upload(samples.photo(200, 200))
        paths = [image['image'], *image['thumbnails'], '/images', '/nothing'] * 20
        with ThreadPoolExecutor(8) as executor:
            answers = list(executor.map(server.get, paths))
        bodies = [
            answer.body
            for answer in server.on_each_worker(lambda: server.get('/metrics'))
        ]
    scrapes = [Scraped(body.decode()) for body in bodies]

    for number, scraped in enumerate(scrapes):
        metrics_sent = sum(map(len, bodies[:number]))
        assert scraped.value('asgilook_workers') == 2
        requests = 'asgilook_http_requests_total'
        assert scraped.total(requests, route=IMAGE, status='200') == 20
        assert scraped.total(requests, route=THUMBNAIL, status='200') == 20
        assert scraped.total(requests, route=IMAGES, method='GET', status='200') == 20
        assert scraped.total(requests, route='other', status='404') == 20
        assert scraped.total(requests, method='POST', status='201') == 1
        assert scraped.total(requests, route='/metrics') == number
        sent = sum(len(answer.body) for answer in answers)
        name = 'asgilook_http_response_bytes_total'
        assert scraped.total(name, method='GET') == sent + metrics_sent
        hits = sum(answer.status == 200 and answer.hit for answer in answers)
        results = 'asgilook_cache_results_total'
        assert scraped.total(results) - scraped.total(results, result='miss') == hits
        assert scraped.value('process_cpu_seconds_total') > 0
        labels = {label for _, items in scraped.samples for label, _ in items}
        assert not labels & {'pid', 'worker'}


@pytest.mark.integration
def test_replaced_workers_lose_no_count(tmp_path: Path) -> None:
    """Under load, workers are killed: what was answered is counted, and stays so."""
    with Server(tmp_path, '--workers', '2') as server:
        path = server.upload(samples.photo(200, 200))['thumbnails'][0]
        url = 'asgilook_http_requests_total'
        before: dict[Any, float] = {}
        answered = 0
        for restarts in range(3):
            for _ in range(20):
                answered += server.get(path).status == 200
            if restarts < 2:
                os.kill(server.workers[0], signal.SIGKILL)
            for _ in range(5):
                scraped = Scraped(server.get('/metrics').body.decode())
                assert scraped.total(url, route=THUMBNAIL) == answered
                gone_back = {
                    key: (value, scraped.samples.get(key))
                    for key, value in before.items()
                    if scraped.samples.get(key, 0) < value
                }
                assert gone_back == {}
                before = {
                    key: value
                    for key, value in scraped.samples.items()
                    if key[0].endswith(('_total', '_bucket', '_sum', '_count'))
                }
            server.logged('Application startup complete', min(restarts + 3, 4))
        assert scraped.value('asgilook_workers') == 2


class Uvicorn(Server):
    """Two workers of `uvicorn`, whose supervisor leaves its socket open at the end."""

    def __init__(self, folder: Path) -> None:
        program = 'uvicorn', 'asgilook.asgi:app'
        super().__init__(folder, '--workers', '2', program=program)

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


@pytest.mark.integration
def test_uvicorn_without_a_shared_folder_logs_once(tmp_path: Path) -> None:
    with Uvicorn(tmp_path) as server:
        assert server.get('/metrics').status == 200
        assert server.log.count('metrics are those of one process') == 1


@pytest.mark.integration
def test_uvicorn_with_a_shared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'metrics'
    monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', str(folder))
    with Uvicorn(tmp_path) as server:
        for _ in range(10):
            server.get('/images')
        scraped = Scraped(server.get('/metrics').body.decode())
        assert scraped.requests('GET', IMAGES, 200) == 10
        assert 'metrics count' not in server.log
    assert folder.exists()
