"""Requests counted for Prometheus, at the cost of a microsecond each.

A hit is answered in less time than the client library needs for its own counters and
histograms. So these are plain numbers, raised on the event loop alone; at a scrape
they become the library's metric families.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

import falcon
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..web.record import Record

# Upper bounds in seconds: from a hit to the longest upload.
_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

# The label of what is not bounded: paths without a resource, invented methods.
_OTHER = 'other'

_CONVERTER = re.compile(r':[^}]*')


class _Durations:
    """A histogram's numbers."""

    __slots__ = ('counts', 'seconds')

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.seconds = 0.0


class _Requests:
    """The numbers of requests of one route, method and status."""

    __slots__ = ('count', 'durations', 'sent')

    def __init__(self, durations: _Durations) -> None:
        self.count = 0
        self.sent = 0
        self.durations = durations


class HttpMetrics:
    """A collector of what was answered; its labels have a bounded set of values."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], _Requests] = {}
        self._durations: defaultdict[tuple[str, str], _Durations]
        self._durations = defaultdict(_Durations)
        self._cache: defaultdict[tuple[str, str], int] = defaultdict(int)

    def count(self, record: Record) -> None:
        """Count a request that has been answered."""
        route = record.route or _OTHER
        try:
            numbers = self._requests[route, record.method, record.status]
        except KeyError:
            numbers = self._find(route, record.method, record.status)
        numbers.count += 1
        numbers.sent += record.sent
        durations = numbers.durations
        durations.seconds += record.seconds
        durations.counts[bisect_left(_BOUNDS, record.seconds)] += 1
        if record.cache is not None:
            self._cache[route, record.cache] += 1

    def _find(self, route: str, method: str, status: int) -> _Requests:
        if method not in falcon.HTTP_METHODS:
            method = _OTHER
        durations = self._durations[route, method]
        return self._requests.setdefault((route, method, status), _Requests(durations))

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        labels = ['route', 'method', 'status']
        requests = CounterMetricFamily(
            'asgilook_http_requests', 'Requests answered.', labels=labels
        )
        sent = CounterMetricFamily(
            'asgilook_http_response_bytes', 'Bytes of bodies sent.', labels=labels
        )
        for (route, method, status), numbers in self._requests.items():
            values = [_public(route), method, str(status)]
            requests.add_metric(values, numbers.count)
            sent.add_metric(values, numbers.sent)
        yield from (requests, sent, self._collect_durations(), self._collect_cache())

    def _collect_durations(self) -> Metric:
        family = HistogramMetricFamily(
            'asgilook_http_request_duration_seconds',
            'Time from the head of a request to the end of its answer.',
            labels=['route', 'method'],
        )
        bounds = [*(str(float(bound)) for bound in _BOUNDS), '+Inf']
        for (route, method), durations in self._durations.items():
            buckets = list(zip(bounds, accumulate(durations.counts), strict=True))
            family.add_metric([_public(route), method], buckets, durations.seconds)
        return family

    def _collect_cache(self) -> Metric:
        family = CounterMetricFamily(
            'asgilook_cache_results',
            'Answers by where they came from: memory, redis, or a miss.',
            labels=['route', 'result'],
        )
        for (route, result), count in self._cache.items():
            family.add_metric([_public(route), result], count)
        return family


def _public(template: str) -> str:
    """Write a Falcon template as OpenAPI does, without converters."""
    return _CONVERTER.sub('', template)
