"""Metrics of requests: by route, method, status and result of the response cache."""

from __future__ import annotations

import operator
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPMethod
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from .rows import Key, RowTable
from .worker_files import REQUESTS, WorkerFiles

# Upper bounds in seconds: from a cache hit to the longest upload.
BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, float('inf')),
)

# Label for unbounded values: paths without a resource, unknown methods.
OTHER = 'other'

# A row: bytes sent, seconds, and the number of requests in each bucket.
_BYTES = 0
_SECONDS = 1
_FIRST_BUCKET = 2
_WIDTH = _FIRST_BUCKET + len(BUCKETS)

_BY_STATUS = ['route', 'method', 'status']
_COUNTERS = {
    'requests': ('asgilook_http_requests', 'Requests answered.', _BY_STATUS),
    'bytes': (
        'asgilook_http_response_bytes',
        'Bytes of response bodies sent.',
        _BY_STATUS,
    ),
    'results': (
        'asgilook_cache_results',
        'Responses by cache tier (memory or redis), or miss.',
        ['route', 'result'],
    ),
}

# Route, method, status, cache result.
_Kind = tuple[str | None, str, int, str | None]

_METHODS = frozenset(method.value for method in HTTPMethod)
_CONVERTER = re.compile(r':[^}]*')


class RequestMetrics:
    """Counts requests; a collector for Prometheus.

    Args:
        files: where the workers of the service count; None for a single process.
    """

    def __init__(self, files: WorkerFiles | None) -> None:
        self._files = files
        self._table = RowTable(_WIDTH, files.own_path(REQUESTS) if files else None)
        self._rows: dict[
            tuple[str | None, str, int, str | None], memoryview[float]
        ] = {}

    def count(
        self,
        route: str | None,
        method: str,
        status: int,
        cache_result: str | None,
        sent: int,
        seconds: float,
    ) -> None:
        """Count a completed request.

        Args:
            route: template of the URL as in Falcon; None without a resource.
            method: HTTP method.
            status: status of the response.
            cache_result: memory, redis or miss; None if no cache was asked.
            sent: bytes of the body that were sent.
            seconds: time that the response took.
        """
        try:
            row = self._rows[route, method, status, cache_result]
        except KeyError:
            row = self._find(route, method, status, cache_result)
        row[_BYTES] += sent
        row[_SECONDS] += seconds
        row[_FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1

    def _find(
        self, route: str | None, method: str, status: int, cache_result: str | None
    ) -> memoryview[float]:
        known = method if method in _METHODS else OTHER
        path = OTHER if route is None else _openapi_path(route)
        row = self._table.row((path, known, str(status), cache_result or ''))
        if known == method:
            self._rows[route, method, status, cache_result] = row
        return row

    def collect(self, paths: Sequence[str] = ()) -> Iterator[Metric]:
        """Yield the metric families: those of the files at `paths`, or else its own."""
        tables = [RowTable(_WIDTH, path) for path in paths] or [self._table]
        return _collect([item for table in tables for item in table.items()])


def _collect(rows: Iterable[tuple[Key, Sequence[float]]]) -> Iterator[Metric]:
    """Yield the families of all rows together."""
    sums: dict[str, dict[Key, float]] = defaultdict(lambda: defaultdict(float))
    buckets: dict[Key, list[float]] = defaultdict(lambda: [0] * len(BUCKETS))
    seconds: dict[Key, float] = defaultdict(float)
    for (route, method, status, result), numbers in rows:
        counts = numbers[_FIRST_BUCKET:]
        sums['requests'][route, method, status] += sum(counts)
        sums['bytes'][route, method, status] += numbers[_BYTES]
        if result:
            sums['results'][route, result] += sum(counts)
        seconds[route, method] += numbers[_SECONDS]
        found = buckets[route, method]
        found[:] = map(operator.add, found, counts)
    for name, (family, text, labels) in _COUNTERS.items():
        counter = CounterMetricFamily(family, text, labels=labels)
        for key, value in sums[name].items():
            counter.add_metric(key, value)
        yield counter
    yield _durations(buckets, seconds)


def _durations(
    buckets: Mapping[Key, Iterable[float]], seconds: Mapping[Key, float]
) -> HistogramMetricFamily:
    histogram = HistogramMetricFamily(
        'asgilook_http_request_duration_seconds',
        'Time from the headers of a request to the end of its response.',
        labels=['route', 'method'],
    )
    bounds = [*map(str, BUCKETS[:-1]), '+Inf']
    for key, counts in buckets.items():
        cumulative = list(zip(bounds, accumulate(counts), strict=True))
        histogram.add_metric(key, cumulative, seconds[key])
    return histogram


def _openapi_path(template: str) -> str:
    """Write a Falcon template as OpenAPI does, without converters."""
    return _CONVERTER.sub('', template)
