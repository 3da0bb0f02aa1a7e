"""What is counted and measured, for Prometheus: one object per app.

Whoever counts gets it through its constructor; `resources.metrics` serves it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Upper bounds in seconds.
_JOB_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of the worker threads, in a registry of their own."""

    def __init__(self) -> None:
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
        )
        self.rejections = Counter(
            'asgilook_refusals',
            'Uploads and renders rejected because too many were waiting.',
            registry=self.registry,
        )
