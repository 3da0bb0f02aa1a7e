"""Whole services: photos are uploaded, then every thumbnail is fetched once.

Run it as `python -m benchmarks.service [JPEG ...]`. It compares this service, the
tutorial's, thumbor (`--thumbor PYTHON`, an interpreter that has it) and libvips in bare
threads, which reads the uploaded files and has no HTTP. Each stores the photos in its
own way. They take turns within each round; figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, ImageOps

from .pictures import photo, turned
from .processes import free_port, peak_rss, process, service
from .service_report import (
    LIBVIPS,
    MEMORY,
    OURS,
    SCALES,
    THUMBOR,
    TUTORIAL,
    UPLOADS,
    WHOLE,
    Figures,
    plot,
    report,
)

# Set before libvips starts, so that each of its operations has one thread.
os.environ['VIPS_CONCURRENCY'] = '1'

Size = tuple[int, int]
Server = contextlib.AbstractContextManager[tuple[str, int]]

CLIENTS = 4
THREADS = 2
QUALITY = 85
# Time between uploads and thumbnails, in seconds, for all services alike.
PAUSE = 2


@dataclass(frozen=True)
class Photo:
    """A file to upload, and its size after orientation."""

    data: bytes
    size: Size

    def reduced(self, scale: int) -> Size:
        return self.size[0] // scale, self.size[1] // scale


@dataclass(frozen=True)
class Stored:
    """An uploaded photo."""

    image_id: str
    photo: Photo


@dataclass(frozen=True)
class Paths:
    """Where a service takes uploads, and patterns of its thumbnails and images."""

    upload: str
    thumbnail: str
    image: str


class HttpService:
    """A running service; each client thread keeps its connection."""

    def __init__(self, server: tuple[str, int], paths: Paths) -> None:
        url, self._pid = server
        self._address = urlsplit(url).netloc
        self._paths = paths
        self._local = threading.local()

    def upload(self, photo: Photo) -> Stored:
        location = self._request('POST', self._paths.upload, photo.data)
        name = location.removeprefix(f'{self._paths.upload}/')
        return Stored(name.partition('/')[0].removesuffix('.jpeg'), photo)

    def thumbnail(self, stored: Stored, scale: int) -> None:
        width, height = stored.photo.reduced(scale)
        pattern = self._paths.thumbnail
        self._request(
            'GET', pattern.format(id=stored.image_id, width=width, height=height)
        )

    def image(self, stored: Stored) -> None:
        self._request('GET', self._paths.image.format(id=stored.image_id))

    def peak_memory(self) -> float:
        return peak_rss(self._pid)

    def _request(self, method: str, path: str, body: bytes | None = None) -> str:
        if not hasattr(self._local, 'connection'):
            self._local.connection = http.client.HTTPConnection(self._address)
        connection = self._local.connection
        connection.request(method, path, body, {'Content-Type': 'image/jpeg'})
        response = connection.getresponse()
        content = response.read()
        if response.status not in (200, 201):
            raise SystemExit(f'{method} {path}: {response.status} {content[:200]!r}')
        return str(response.getheader('Location', ''))


def measure_libvips(folder: str, photos: list[Photo]) -> Figures:
    """Measure libvips in threads of another process, on the uploaded files."""
    paths = []
    for number, each in enumerate(photos):
        paths.append(os.path.join(folder, str(number)))
        with open(paths[-1], 'wb') as file:
            file.write(each.data)
    with ProcessPoolExecutor(1, get_context('spawn')) as executor:
        return {
            f'cold 1/{scale}': executor.submit(
                vips_thumbnails,
                [
                    (path, each.reduced(scale))
                    for path, each in zip(paths, photos, strict=True)
                ],
            ).result()
            for scale in SCALES
        }


def vips_thumbnails(jobs: list[tuple[str, Size]]) -> float:
    """Return how many thumbnails per second the threads of this process make."""
    import pyvips

    pyvips.cache_set_max(0)

    def make(job: tuple[str, Size]) -> None:
        path, (width, height) = job
        image = pyvips.Image.thumbnail(path, width, height=height, size='force')
        image.jpegsave_buffer(Q=QUALITY, keep='none')

    make(jobs[0])
    return rate(make, jobs, THREADS)


def rate(function: Callable[[Any], object], jobs: Sequence[Any], threads: int) -> float:
    """Return how many jobs per second some threads do."""
    with ThreadPoolExecutor(threads) as executor:
        start = time.perf_counter()
        for _ in executor.map(function, jobs):
            pass
        return len(jobs) / (time.perf_counter() - start)


def asgilook(folder: str) -> Server:
    return service(folder, ASGI_LOOK_THREADS=str(THREADS))


def tutorial(folder: str) -> Server:
    port = free_port()
    command = [sys.executable, '-m', 'uvicorn', 'benchmarks.tutorial:app', '--factory']
    command += ['--port', str(port), '--no-access-log', '--log-level', 'warning']
    return process(port, *command, FOLDER=folder)


def thumbor(folder: str, python: str) -> Server:
    settings = {
        'ENGINE_THREADPOOL_SIZE': THREADS,
        'FILE_STORAGE_ROOT_PATH': folder,
        'QUALITY': QUALITY,
        'RESPECT_ORIENTATION': True,
        'STORAGE': 'thumbor.storages.file_storage',
        'UPLOAD_ENABLED': True,
        'UPLOAD_PHOTO_STORAGE': 'thumbor.storages.file_storage',
    }
    config = os.path.join(folder, 'thumbor.conf')
    with open(config, 'w') as file:
        file.writelines(f'{name} = {value!r}\n' for name, value in settings.items())
    port = free_port()
    options = ['-p', str(port), '-c', config, '-l', 'error']
    return process(port, python, '-m', 'thumbor.server', *options)


OWN_PATHS = Paths(
    upload='/images',
    thumbnail='/thumbnails/{id}/{width}x{height}.jpeg',
    image='/images/{id}.jpeg',
)
THUMBOR_PATHS = Paths(
    upload='/image',
    thumbnail='/unsafe/{width}x{height}/{id}',
    image='/image/{id}/image.jpg',
)


def measure_round(
    photos: list[Photo], thumbor_python: str | None
) -> Iterator[tuple[str, Figures]]:
    """Measure each contender once, each on a folder of its own."""
    servers = {OURS: (asgilook, OWN_PATHS), TUTORIAL: (tutorial, OWN_PATHS)}
    if thumbor_python is not None:
        start = partial(thumbor, python=thumbor_python)
        servers[THUMBOR] = (start, THUMBOR_PATHS)
    for name, (start, paths) in servers.items():
        with new_folder() as folder, start(folder) as server:
            yield name, measure_http(HttpService(server, paths), photos)
    with new_folder() as folder:
        yield LIBVIPS, measure_libvips(folder, photos)


def new_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def measure_http(running: HttpService, photos: list[Photo]) -> Figures:
    stored: list[Stored] = []
    figures = {
        UPLOADS: rate(lambda each: stored.append(running.upload(each)), photos, CLIENTS)
    }
    time.sleep(PAUSE)
    for scale in SCALES:
        fetch = partial(running.thumbnail, scale=scale)
        figures[f'cold 1/{scale}'] = rate(fetch, stored, CLIENTS)
    figures[WHOLE] = rate(running.image, stored, CLIENTS)
    figures[MEMORY] = running.peak_memory()
    return figures


def read(path: str) -> Photo:
    with open(path, 'rb') as file:
        return make_photo(file.read())


def make_photo(data: bytes) -> Photo:
    return Photo(data, ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size)


def made_photos() -> list[Photo]:
    made = [photo(4000, 3000, seed) for seed in range(3)]
    return [make_photo(data) for data in (*made, turned(made[0]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('photos', nargs='*', metavar='JPEG')
    parser.add_argument('--copies', type=int, default=4, help='uploads of each photo')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--thumbor', metavar='PYTHON', help='an interpreter with thumbor'
    )
    parser.add_argument('--plot', metavar='SVG', help='file for a drawing')
    options = parser.parse_args()
    photos = [read(path) for path in options.photos] or made_photos()
    print(f'{len(photos)} photos, {options.copies} of each, {CLIENTS} clients')
    python = options.thumbor
    if python is None or subprocess.call([python, '-c', 'import thumbor']):
        print('thumbor is left out: name a Python that has it with --thumbor')
        python = None
    rounds: dict[str, list[Figures]] = {}
    for number in range(options.rounds):
        for name, figures in measure_round(photos * options.copies, python):
            rounds.setdefault(name, []).append(figures)
            rates = (f'{row} {value:.1f}' for row, value in figures.items())
            print(f'round {number + 1}, {name}:', ', '.join(rates), flush=True)
    report(rounds)
    if options.plot:
        plot(rounds, options.plot)


if __name__ == '__main__':
    main()
