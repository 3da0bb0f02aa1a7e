"""Metrics for Prometheus, of one process: each sample says so by its label `worker`.

Workers share a port, so a scrape reaches one of them, and the next one maybe another.
That is exact for each worker, and `sum by (route) (rate(...))` over some scrapes is
right for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import falcon.asgi
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from ..concurrency import Check, Pool
from ..observer import Observer
from .http_metrics import HttpMetrics

T = TypeVar('T')

# Upper bounds in seconds.
_JOB_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class WorkMetrics(Observer):
    """A collector of what the threads do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._pools: list[Pool] = []
        self._seconds = Histogram(
            'asgilook_job_duration_seconds',
            'Time in a thread, of an upload or the rendering of a thumbnail.',
            ['kind'],
            buckets=_JOB_BOUNDS,
            registry=registry,
        )
        self._accepted = Counter(
            'asgilook_uploads',
            'Uploads that could be decoded, by the format that they had.',
            ['format'],
            registry=registry,
        )
        registry.register(self)

    def watch(self, pool: Pool) -> None:
        """Read the pool's queue at each scrape."""
        self._pools.append(pool)

    def timed(self, kind: str, job: Callable[[Check], T]) -> Callable[[Check], T]:
        """Return a job that is timed, however it ends."""

        def run(check: Check) -> T:
            with self._seconds.labels(kind).time():
                return job(check)

        return run

    def accepted(self, format_: str) -> None:
        """Count an upload; the library's counters may be raised in any thread."""
        self._accepted.labels(format_.lower()).inc()

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families of the queue."""
        yield GaugeMetricFamily(
            'asgilook_queue_length',
            'Uploads and renders that wait for a thread.',
            sum(pool.waiting for pool in self._pools),
        )
        yield CounterMetricFamily(
            'asgilook_refusals',
            'Uploads and renders refused, as too many were waiting.',
            sum(pool.refused for pool in self._pools),
        )


class Metrics:
    """The resource `/metrics`, and all that is counted for it in this app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.http = HttpMetrics()
        self.work = WorkMetrics(self._registry)
        self._registry.register(self.http)
        ProcessCollector(registry=self._registry)

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send the metrics of this process, in Prometheus' text format."""
        resp.data = generate_latest(self)
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.cache_control = ['no-store']

    on_head = on_get

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families, each sample with the label `worker`."""
        worker = {'worker': str(os.getpid())}
        for family in self._registry.collect():
            family.samples = [
                sample._replace(labels=sample.labels | worker)
                for sample in family.samples
            ]
            yield family
