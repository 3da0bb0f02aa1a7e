"""Prometheus metrics of the service: one `Metrics` object per app."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPMethod
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .worker_files import worker_files

# Upper bounds in seconds: from a cache hit to the longest upload.
_REQUEST_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_JOB_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# The label of values without a bound: paths without a resource, invented methods.
OTHER = 'other'

_METHODS = frozenset(method.value for method in HTTPMethod)
_CONVERTER = re.compile(r':[^}]*')

_Add = Callable[[float], None]
_Key = tuple[str, str, int, str | None]


class _Counts(NamedTuple):
    """What counts the requests of one kind."""

    add_request: _Add
    observe: _Add
    add_bytes: _Add
    add_result: _Add | None


class Metrics:
    """Everything that is counted and measured, in a registry of its own.

    Each label has a bounded set of values. Where `files` is not None, the metrics of
    all workers are in these files, and the registry has those of this one only.
    """

    def __init__(self) -> None:
        # NOTE(workers): a worker takes over files before its first metric opens them.
        self.files = worker_files()
        # The time of a series' creation would be a second series for each.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.job_duration = Histogram(
            'asgilook_job_duration_seconds',
            'Time in a worker thread, by kind of job (upload, thumbnail or preview).',
            ['kind'],
            buckets=_JOB_BUCKETS,
            registry=self.registry,
        )
        self.uploads = Counter(
            'asgilook_uploads',
            'Uploads that could be decoded, by their format.',
            ['format'],
            registry=self.registry,
        )
        self.previews = Histogram(
            'asgilook_preview_duration_seconds',
            'Time to store a preview (upload), to make and store it (request, idle), '
            'or to read it (used).',
            ['event'],
            buckets=_JOB_BUCKETS,
            registry=self.registry,
        )
        self.queue_length = Gauge(
            'asgilook_queue_length',
            'Uploads and renders that wait for a worker thread.',
            registry=self.registry,
            multiprocess_mode='livesum',
        )
        self.rejections = Counter(
            'asgilook_refusals',
            'Uploads and renders rejected because too many were waiting.',
            registry=self.registry,
        )
        self.events_invalid = Counter(
            'asgilook_events_invalid',
            'Messages on the Redis channel of events that are not events.',
            registry=self.registry,
        )
        self.event_streams_dropped = Counter(
            'asgilook_event_streams_dropped',
            'Event streams closed because their clients did not read.',
            registry=self.registry,
        )
        self.requests = RequestMetrics(self.registry)


class RequestMetrics:
    """Requests by route, method and status, and results of the response cache."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ['route', 'method', 'status']
        self._requests = Counter(
            'asgilook_http_requests', 'Requests answered.', labels, registry=registry
        )
        self._bytes = Counter(
            'asgilook_http_response_bytes',
            'Bytes of response bodies sent.',
            labels,
            registry=registry,
        )
        self._durations = Histogram(
            'asgilook_http_request_duration_seconds',
            'Time from the head of a request to the end of its response.',
            ['route', 'method'],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._cache_results = Counter(
            'asgilook_cache_results',
            'Responses by cache tier (memory or redis), or miss.',
            ['route', 'result'],
            registry=registry,
        )
        # PERF: the methods of the children, as finding a child by its labels takes
        # longer than counting.
        self._counts: dict[_Key, _Counts] = {}

    def count(
        self,
        route: str,
        method: str,
        status: int,
        cache_result: str | None,
        sent: int,
        seconds: float,
    ) -> None:
        """Count a request that has been answered.

        Args:
            route: template of the URL as in Falcon, or `OTHER`.
            method: HTTP method.
            status: status of the response.
            cache_result: memory, redis or miss; None if no cache was asked.
            sent: bytes of the body that were sent.
            seconds: time that the response took.
        """
        try:
            counts = self._counts[route, method, status, cache_result]
        except KeyError:
            method = method if method in _METHODS else OTHER
            counts = self._find(route, method, status, cache_result)
        counts.add_request(1)
        counts.observe(seconds)
        if sent:
            counts.add_bytes(sent)
        if counts.add_result is not None:
            counts.add_result(1)

    def _find(
        self, route: str, method: str, status: int, cache_result: str | None
    ) -> _Counts:
        key = route, method, status, cache_result
        if key not in self._counts:
            path = _openapi_path(route)
            values = path, method, str(status)
            self._counts[key] = _Counts(
                self._requests.labels(*values).inc,
                self._durations.labels(path, method).observe,
                self._bytes.labels(*values).inc,
                self._cache_results.labels(path, cache_result).inc
                if cache_result
                else None,
            )
        return self._counts[key]


def _openapi_path(template: str) -> str:
    """Write a Falcon template as OpenAPI does, without converters."""
    return _CONVERTER.sub('', template)
