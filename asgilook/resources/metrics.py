"""Metrics for Prometheus, of all workers of the service in one response."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator

import falcon.asgi
from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from .. import __version__
from ..metrics.registry import Metrics
from ..metrics.worker_files import WorkerFiles
from .probes import Probes
from .process_metrics import collect_cpu, collect_living


class MetricsResource:
    """The resource `/metrics`."""

    def __init__(self, metrics: Metrics, probes: Probes) -> None:
        self._metrics = metrics
        self._probes = probes

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send the metrics in Prometheus' text format."""
        families = await self._service_families()
        # PERF: adding up the files of many workers takes longer than a cache hit may.
        resp.data = await asyncio.to_thread(self._generate, families)
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.cache_control = ['no-store']

    on_head = on_get

    def _generate(self, families: list[Metric]) -> bytes:
        if self._metrics.files is None:
            families += self._metrics.registry.collect()
            families += ProcessCollector(registry=None).collect()
        else:
            families += self._collect_workers(self._metrics.files)
        return generate_latest(_Families(families))

    def _collect_workers(self, files: WorkerFiles) -> Iterator[Metric]:
        """Yield the families of all workers together."""
        with files.scrape() as scraped:
            yield from MultiProcessCollector.merge(scraped.paths)  # type: ignore[no-untyped-call]
            yield from self._metrics.requests.collect(scraped.request_paths)
            yield GaugeMetricFamily(
                'asgilook_workers', 'Number of worker processes.', len(scraped.living)
            )
            yield from collect_living(scraped.living)
            supervisor = multiprocessing.parent_process()
            if supervisor is not None and supervisor.pid is not None:
                yield from collect_cpu(supervisor.pid, scraped.pids)

    async def _service_families(self) -> list[Metric]:
        """Return the families that do not depend on the worker."""
        components, free_bytes, images = await asyncio.gather(
            self._probes.components(),
            self._probes.free_bytes(),
            self._probes.image_count(),
        )
        build_info = GaugeMetricFamily(
            'asgilook_build_info', 'Version of the service.', labels=['version']
        )
        build_info.add_metric([__version__], 1)
        up = GaugeMetricFamily(
            'asgilook_up',
            'Whether a component (storage, database, redis) works.',
            labels=['component'],
        )
        for name, state in components.items():
            if state != 'none':
                up.add_metric([name], state == 'up')
        families: list[Metric] = [build_info, up]
        if images is not None:
            families.append(
                GaugeMetricFamily('asgilook_images', 'Number of images.', images)
            )
        if free_bytes is not None:
            families.append(
                GaugeMetricFamily(
                    'asgilook_storage_free_bytes',
                    'Free bytes in the storage folder (with a bucket: for uploads).',
                    free_bytes,
                )
            )
        return families


class _Families:
    """A collector of families that have been collected already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
