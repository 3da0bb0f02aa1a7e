"""The files for Prometheus and Grafana, checked with a real Prometheus."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config

from . import samples
from .conftest import Json
from .servers import HOST, Process, RedisServer, Server, free_port, require, until

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).parent.parent / 'deploy'
CONFIGURATION = DEPLOY / 'prometheus' / 'prometheus.yml'
RULES = DEPLOY / 'prometheus' / 'asgilook.rules.yml'
DASHBOARD = DEPLOY / 'grafana.json'

DURATION = (
    'asgilook_http_request_duration_seconds_bucket'
    '{method="GET",route="/thumbnails/{image_id}/{size}.jpeg",le="%s"} 0+1x60'
)

# Every alert with a series that raises it; `+` and `x` are promtool's notation.
ALERTS = {
    'AsgilookUnreachable': 'up{job="asgilook"} 0x60',
    'AsgilookComponentDown': 'asgilook_up{component="database"} 0x60',
    'AsgilookRedisDown': 'asgilook_up{component="redis"} 0x60',
    'AsgilookErrors': 'asgilook_http_requests_total{status="500"} 0+1x60',
    'AsgilookStorageFull': 'asgilook_http_requests_total{status="507"} 0+1x60',
    'AsgilookStorageFillsUp': 'asgilook_storage_free_bytes 2e9-1e7x60',
    'AsgilookOverload': 'asgilook_refusals_total 0+1x60',
    'AsgilookSlowHits': DURATION % '1.0',
    'AsgilookFileDescriptors': 'process_open_fds{job="asgilook"} 90x60',
}

# What a healthy service has.
HEALTHY = (
    'up{job="asgilook"} 1x60',
    'asgilook_up{component="database"} 1x60',
    'asgilook_up{component="redis"} 1x60',
    'asgilook_http_requests_total{status="200"} 0+100x60',
    'asgilook_http_requests_total{status="500"} 5x60',
    'asgilook_http_requests_total{status="507"} 5x60',
    'asgilook_storage_free_bytes 2e11-1e5x60',
    'asgilook_refusals_total 7x60',
    DURATION % '0.1',
    'process_open_fds{job="asgilook"} 50x60',
)

# What each of them is compared with.
TOTALS = ('process_max_fds{job="asgilook"} 100x60', DURATION % '+Inf')


def promtool(*arguments: str, text: bytes = b'') -> str:
    """Run promtool on a text; return its output if it succeeds."""
    command = [require('promtool'), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    assert done.returncode == 0, done
    return (done.stdout + done.stderr).decode()


def test_configuration_is_valid() -> None:
    assert promtool('check', 'config', str(CONFIGURATION)).count('SUCCESS') == 3


def test_metrics_are_valid(client: TestClient, image: Json) -> None:
    client.simulate_get(image['image'])
    metrics = client.simulate_get('/metrics').content
    assert promtool('check', 'metrics', text=metrics) == ''


def firing(folder: Path, *series: str) -> set[str]:
    """Return the alerts that fire after an hour of these series."""
    values = [line.rpartition(' ') for line in (*series, *TOTALS)]
    inputs = [{'series': name, 'values': value} for name, _, value in values]
    expected = [{'eval_time': '1h', 'alertname': name} for name in ALERTS]
    test = {
        'rule_files': [str(RULES)],
        'tests': [
            {'interval': '1m', 'input_series': inputs, 'alert_rule_test': expected}
        ],
    }
    path = folder / 'test.yml'
    path.write_text(json.dumps(test))  # any JSON is YAML
    command = [require('promtool'), 'test', 'rules', str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(re.findall(r'alertname: (\w+)', done.stderr + done.stdout))


def test_healthy_service_raises_no_alert(tmp_path: Path) -> None:
    assert firing(tmp_path, *HEALTHY) == set()


@pytest.mark.parametrize('alert', ALERTS)
def test_alert(tmp_path: Path, alert: str) -> None:
    assert firing(tmp_path, ALERTS[alert]) == {alert}


def test_every_alert_is_tested() -> None:
    assert re.findall(r'- alert: (\w+)', RULES.read_text('utf-8')) == [*ALERTS]


def expressions() -> dict[str, str]:
    """Return the queries of the dashboard, by panel and letter."""
    dashboard = json.loads(DASHBOARD.read_text('utf-8'))
    return {
        f'{panel["title"]} {target["refId"]}': target['expr']
        for panel in dashboard['panels']
        for target in panel['targets']
    }


def test_dashboard_and_rules_name_metrics_that_exist(config: Config) -> None:
    text = TestClient(create_app(config)).simulate_get('/metrics').text
    known = set(re.findall(r'# TYPE (\w+)', text))
    queries = ' '.join([*expressions().values(), RULES.read_text('utf-8')])
    names = set(re.findall(r'\b(?:asgilook|process)_\w+', queries))
    bases = {re.sub('_(bucket|count|sum)$', '', name) for name in names}
    assert len(bases) > 12
    assert bases <= known


class Prometheus(Process):
    """A Prometheus that scrapes a service once a second."""

    ready = 'Server is ready to receive web requests'

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        configuration = {
            'global': {'scrape_interval': '1s'},
            'scrape_configs': [
                {
                    'job_name': 'asgilook',
                    'static_configs': [{'targets': [f'{HOST}:{target}']}],
                }
            ],
        }
        path = folder / 'prometheus.yml'
        path.write_text(json.dumps(configuration))
        super().__init__(
            folder,
            require('prometheus'),
            f'--config.file={path}',
            f'--storage.tsdb.path={folder / "tsdb"}',
            f'--web.listen-address={HOST}:{self.port}',
        )

    def query(self, expression: str) -> dict[str, float]:
        """Return the values of the series that a query finds now."""
        url = f'http://{HOST}:{self.port}/api/v1/query?'
        url += urllib.parse.urlencode({'query': expression})
        with urllib.request.urlopen(url, timeout=60) as answer:
            found = json.load(answer)['data']['result']
        return {json.dumps(row['metric']): float(row['value'][1]) for row in found}

    def value(self, expression: str) -> float:
        """Return the value of a query that finds one series, or 0."""
        return sum(self.query(expression).values())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Server]:
    """Return a service of three workers that is easily overloaded, with Redis."""
    with (
        RedisServer(tmp_path) as redis,
        Server(
            tmp_path,
            *('--workers', '3'),
            redis_host=redis.url,
            threads=1,
            queue_size=0,
        ) as server,
    ):
        yield server


def test_prometheus_sees_every_request(service: Server, tmp_path: Path) -> None:
    """Two of three workers are killed meanwhile; no series goes back."""
    path = service.upload(samples.photo(200, 200))['thumbnails'][0]
    pids = iter(service.workers)

    def get(number: int) -> int:
        if number in (200, 400):
            os.kill(next(pids), signal.SIGKILL)
        while True:
            try:
                return service.get(path).status
            except OSError:  # its worker was killed
                continue

    requests = 'sum(asgilook_http_requests_total{route=~"/thumbnails/.*"})'
    with Prometheus(tmp_path, service.port) as prometheus:
        until(lambda: prometheus.value('up') == 1)
        with ThreadPoolExecutor(4) as executor:
            assert set(executor.map(get, range(600))) == {200}
        service.logged('Application startup complete', 5)
        until(lambda: prometheus.value('asgilook_workers') == 3)
        until(lambda: prometheus.value(requests) >= 600)
        # A killed worker may have counted a request that it could not answer.
        assert prometheus.value(requests) <= 602
        names = prometheus.query('count by (__name__) ({job="asgilook"})')
        resets = {}
        for name in (json.loads(labels)['__name__'] for labels in names):
            if name.endswith(('_total', '_bucket', '_sum', '_count')):
                resets[name] = prometheus.value(f'sum(resets({name}[5m]))')
        assert len(resets) > 10
        assert {name for name, count in resets.items() if count} == set()
        assert prometheus.query('count by (pid) ({job="asgilook", pid!=""})') == {}


def test_queries_of_the_dashboard_return_data(service: Server, tmp_path: Path) -> None:
    def use(number: int) -> None:
        """Do a little of everything, also what fails."""
        service.ask('POST', '/images', samples.photo(1600, 1200))
        for path in (*images['thumbnails'], '/images', '/missing'):
            service.get(path)

    images: Any = service.upload(samples.photo(1600, 1200))

    def missing() -> list[str]:
        with ThreadPoolExecutor(12) as executor:
            list(executor.map(use, range(12)))
        found = {
            name: prometheus.query(
                expression.replace('$__rate_interval', '1m').replace('$instance', '.*')
            )
            for name, expression in expressions().items()
        }
        return [
            name
            for name, rows in found.items()
            if not any(map(math.isfinite, rows.values()))
        ]

    with Prometheus(tmp_path, service.port) as prometheus:
        until(lambda: not missing())
