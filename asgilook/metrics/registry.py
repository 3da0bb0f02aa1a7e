"""Prometheus metrics of the service: one `Metrics` object per app."""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .requests import RequestMetrics
from .worker_files import worker_files

# Upper bounds in seconds.
_JOB_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one app, in a registry of their own.

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
            'Time to store the previews of an image (upload), to make and store them '
            '(request, idle), or to read one (used).',
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
            'Invalid messages on the Redis channel for events.',
            registry=self.registry,
        )
        self.event_streams_dropped = Counter(
            'asgilook_event_streams_dropped',
            'Event streams closed because their clients did not read.',
            registry=self.registry,
        )
        self.requests = RequestMetrics(self.files)
        self.registry.register(self.requests)
