"""Uploads per second through HTTP, and the memory that many simultaneous ones take.

Run it as `python -m benchmarks.upload`. Four clients with keep-alive send a picture of
12 megapixels, in turn to the service with two threads and to the tutorial's service; in
between, two threads without HTTP do the service's work. A ratio is the median of the
rounds.

All uploads are of one synthetic picture, and previews of rotated pictures are made
after the measurement, when the threads are idle. For a mix of photos, and their
thumbnails, see `benchmarks.service`.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO
from urllib.parse import urlsplit

from PIL import Image, ImageChops

from asgilook.imaging import transform
from asgilook.storage import atomic

from .pictures import photo, turned
from .processes import free_port, peak_rss, process, service
from .turns import Rates, rate, ratio

ROUNDS = 7
SECONDS = 4
CLIENTS = 4
THREADS = 2
MAX_PIXELS = 50_000_000
JPEG_QUALITY = 85

# Minimum ratios to the rates of the tutorial and of the bare pool.
TARGETS = {'unchanged': (3.0, 0.85), 'turned': (1.2, 0.85)}
SIMULTANEOUS = (64, 256)
TARGET_RSS = 400


def tutorial(folder: str) -> contextlib.AbstractContextManager[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, '-m', 'uvicorn', 'benchmarks.tutorial:app', '--factory']
    command += ['--port', str(port), '--no-access-log', '--log-level', 'warning']
    return process(port, *command, FOLDER=folder)


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)


class Clients:
    """Uploads of one picture; a thread that calls keeps its connection."""

    def __init__(self, url: str, picture: bytes) -> None:
        self._url = url
        self._picture = picture
        self._kept = threading.local()

    def __call__(self) -> None:
        if not hasattr(self._kept, 'connection'):
            self._kept.connection = connect(self._url)
        status, answer = post(self._kept.connection, self._picture)
        if status != 201:
            raise SystemExit(f'{self._url} answers {status}: {answer!r}')


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    connection.request('POST', '/images', body)
    response = connection.getresponse()
    return response.status, response.read()


def bare(folder: str, picture: bytes) -> None:
    """Do what the service does with an upload, without HTTP: store a file on disk."""
    new = atomic.NewFile(folder)
    try:
        pixels(picture, new.file)
        new.publish(str(uuid.uuid4()))
    finally:
        new.close()


def pixels(picture: bytes, target: BinaryIO) -> None:
    transform.to_jpeg(
        io.BytesIO(picture),
        target,
        max_pixels=MAX_PIXELS,
        quality=JPEG_QUALITY,
        min_thumb_size=64,
        check_deadline=lambda: None,
    )


def pixels_alone(picture: bytes) -> None:
    with os.fdopen(os.memfd_create('benchmark'), 'w+b') as target:
        pixels(picture, target)


def empty(folder: str) -> None:
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def throughput(kind: str, picture: bytes, folder: str) -> None:
    with contextlib.ExitStack() as stack:
        folders = [
            stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
            for _ in range(3)
        ]
        theirs, _ = stack.enter_context(tutorial(folders[0]))
        settings = {'ASGI_LOOK_THREADS': str(THREADS)}
        ours, _ = stack.enter_context(service(folders[1], **settings))
        if kind == 'unchanged':
            print('identical pixels:', identical(ours, picture))
        jobs: dict[str, tuple[Callable[[], None], int]] = {
            'tutorial': (Clients(theirs, picture), CLIENTS),
            'ours': (Clients(ours, picture), CLIENTS),
            'bare pool': (partial(bare, folders[2], picture), THREADS),
            'bare pool, no files': (partial(pixels_alone, picture), THREADS),
        }
        rates: Rates = {name: [] for name in jobs}
        for _ in range(ROUNDS):
            for name, (job, threads) in jobs.items():
                rates[name].append(rate(job, threads, SECONDS))
                for used in folders:
                    empty(used)
    report(kind, rates)


def identical(url: str, picture: bytes) -> bool:
    connection = connect(url)
    _, answer = post(connection, picture)
    connection.request('GET', json.loads(answer)['image'])
    stored = Image.open(io.BytesIO(connection.getresponse().read()))
    sent = Image.open(io.BytesIO(picture))
    return ImageChops.difference(stored, sent).getbbox() is None


def report(kind: str, rates: Rates) -> None:
    for name, values in rates.items():
        print(f'{kind}: {name:20} {statistics.median(values):6.1f} uploads/s')
    for other, target in zip(('tutorial', 'bare pool'), TARGETS[kind], strict=True):
        reached = ratio(rates, 'ours', other)
        print(f'{kind}: ours / {other}: {reached:.2f} (target: {target})')
    reached = ratio(rates, 'ours', 'bare pool, no files')
    print(f'{kind}: ours / bare pool, no files: {reached:.2f}', flush=True)


def flood(url: str, picture: bytes, clients: int) -> collections.Counter[str]:
    """Send an upload from each client at once; count the responses by status."""
    answers: collections.Counter[str] = collections.Counter()
    start = threading.Barrier(clients)

    def client() -> None:
        start.wait()
        try:
            status, _ = post(connect(url), picture)
            answers[str(status)] += 1
        except OSError as ex:
            answers[type(ex).__name__] += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def memory(kind: str, picture: bytes, folder: str) -> None:
    for clients in SIMULTANEOUS:
        # With the default queue, and with one for all uploads.
        for queue in sorted({64, clients}):
            settings = {
                'ASGI_LOOK_THREADS': str(THREADS),
                'ASGI_LOOK_QUEUE_SIZE': str(queue),
            }
            with stored(folder) as path, service(path, **settings) as (url, pid):
                before = peak_rss(pid)
                answers = flood(url, picture, clients)
                print(
                    f'{kind}: {clients} at once, queue of {queue}: peak RSS '
                    f'{peak_rss(pid):.0f} MB (target: {TARGET_RSS}; at rest '
                    f'{before:.0f}), answers {dict(answers)}',
                    flush=True,
                )


@contextlib.contextmanager
def stored(folder: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as path:
        yield path


def main() -> None:
    picture = photo(4000, 3000)
    transform.configure(MAX_PIXELS)
    print(f'12 megapixels, {len(picture) / 1e6:.1f} MB, {CLIENTS} clients')
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pictures = {'unchanged': picture, 'turned': turned(picture)}
        for measured in (throughput, memory):
            for kind, upload in pictures.items():
                measured(kind, upload, folder)


if __name__ == '__main__':
    main()
