"""Cost of a large storage folder: start, memory, pages of the list, an upload.

Run it as `python -m benchmarks.folder [IMAGES ...]`. The images are copies of one small
JPEG, with different names and times.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable

from PIL import Image

from .processes import peak_rss, service

REPEATS = 15


def fill(folder: str, images: int) -> None:
    file = io.BytesIO()
    Image.effect_noise((128, 128), 50).save(file, 'JPEG')
    content = file.getvalue()
    first = time.time_ns() - images * 10**6
    for number in range(images):
        path = os.path.join(folder, str(uuid.uuid4()))
        with open(path, 'wb') as image:
            image.write(content)
        os.utime(path, ns=(0, first + number * 10**6))


def milliseconds(action: Callable[[], object], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    counts = [int(value) for value in sys.argv[1:]] or [1000, 10_000, 100_000]
    print(
        'images  start s  RSS MB  page ms  next ms  newest ms  304 ms  POST ms  '
        'list after ms'
    )
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            fill(folder, count)
            print(row(folder, count), flush=True)


def row(folder: str, count: int) -> str:
    start = time.perf_counter()
    with service(folder) as (url, pid):
        started = time.perf_counter() - start
        body = picture()

        def fetch(query: str = '', **headers: str) -> bytes:
            request = urllib.request.Request(f'{url}/images{query}', headers=headers)
            try:
                with urllib.request.urlopen(request) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as ex:
                return str(ex.code).encode()

        def post() -> None:
            request = urllib.request.Request(f'{url}/images', body, method='POST')
            urllib.request.urlopen(request).close()

        def list_after() -> float:
            post()
            return milliseconds(lambda: fetch('?limit=10'), 1)

        page = milliseconds(fetch)
        middle = json.loads(fetch())[count // 2 if count < 1000 else 999]['id']
        following = milliseconds(lambda: fetch(f'?after={middle}'))
        newest = milliseconds(lambda: fetch('?limit=10&order=newest'))
        etag = etag_of(f'{url}/images')
        unchanged = milliseconds(lambda: fetch('', **{'If-None-Match': etag}))
        upload = milliseconds(post)
        after = statistics.median(list_after() for _ in range(REPEATS))
        rss = peak_rss(pid)
    return (
        f'{count:6}  {started:7.2f}  {rss:6.0f}  {page:7.1f}  {following:7.1f}  '
        f'{newest:9.1f}  {unchanged:6.1f}  {upload:7.1f}  {after:13.1f}'
    )


def etag_of(url: str) -> str:
    with urllib.request.urlopen(url) as response:
        return str(response.headers['ETag'])


def picture() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((640, 480), 50).save(file, 'JPEG')
    return file.getvalue()


if __name__ == '__main__':
    main()
