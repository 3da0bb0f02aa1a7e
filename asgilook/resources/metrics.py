"""Metrics for Prometheus, of one process: each sample says so by its label `worker`.

Workers share a port, so a scrape reaches one of them, and the next one maybe another.
That is exact for each worker, and `sum by (route) (rate(...))` over some scrapes is
right for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import falcon.asgi
from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from ..metrics import Metrics
from .http_metrics import HttpMetrics


class MetricsResource:
    """The resource `/metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._registry = metrics.registry
        self.http = HttpMetrics()
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
