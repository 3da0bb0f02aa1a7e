"""Requests a second of the service against Falcon itself and the tutorial's way.

Run it as `python -m benchmarks.http`. Every server is one uvicorn worker; wrk asks them
in turn, in several rounds, and a ratio is the median of its rounds'. Needs wrk and
redis-server.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request

from PIL import Image

from .processes import encode, free_port, process, service

ROUNDS = 9
SECONDS = 1
CONNECTIONS = 16

COMPARED = [
    ('thumbnail, in process', 'tutorial', 1.5),
    ('thumbnail, in process', 'bare', 0.75),
    ('thumbnail, Redis only', 'tutorial', 1.0),
    ('304', 'bare', 0.75),
    ('large image', 'streamed, 8 KiB', 8.0),
]


def peer(
    name: str, **environ: str
) -> contextlib.AbstractContextManager[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, '-m', 'uvicorn', f'benchmarks.http_peers:{name}']
    command += ['--factory', '--port', str(port)]
    command += ['--no-access-log', '--log-level', 'warning']
    return process(port, *command, **environ)


def rate(url: str, *headers: str) -> float:
    command = ['wrk', '-t1', f'-c{CONNECTIONS}', f'-d{SECONDS}']
    for header in headers:
        command += ['-H', header]
    printed = subprocess.run(
        [*command, url], check=True, capture_output=True, text=True
    ).stdout
    if 'Non-2xx' in printed and not headers:
        raise SystemExit(printed)
    match = re.search(r'Requests/sec: +([0-9.]+)', printed)
    assert match
    return float(match[1])


def upload(url: str, body: bytes) -> dict[str, str]:
    request = urllib.request.Request(f'{url}/images', body, method='POST')
    with urllib.request.urlopen(request) as response:
        answer: dict[str, str] = json.load(response)
    return answer


def picture(width: int, height: int, quality: int) -> bytes:
    noise = Image.effect_noise((width // 8, height // 8), 60).resize((width, height))
    return encode(Image.merge('RGB', [noise, noise.rotate(180), noise]), quality)


def fetch(url: str) -> tuple[bytes, str]:
    with urllib.request.urlopen(url) as response:
        return response.read(), response.headers['ETag']


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        port = free_port()
        redis_server = ['redis-server', '--port', str(port), '--save', '']
        stack.enter_context(process(port, *redis_server))
        redis = f'redis://127.0.0.1:{port}'
        images = f'{folder}/images'
        settings = {'ASGI_LOOK_REDIS_HOST': redis}
        ours, _ = stack.enter_context(service(images, **settings))
        settings['ASGI_LOOK_CACHE_MEMORY'] = '0'
        cold, _ = stack.enter_context(service(images, **settings))
        small = upload(ours, picture(640, 360, 80))['thumbnails'][0]
        body, etag = fetch(ours + small)
        large = upload(ours, picture(4000, 3000, 70))['image']
        large_body, _ = fetch(ours + large)
        for name, content in ('small', body), ('large', large_body):
            with open(f'{folder}/{name}', 'wb') as file:
                file.write(content)
        print(f'thumbnail {len(body)} bytes, image {len(large_body)} bytes')
        environ = {'BODY': f'{folder}/small', 'REDIS': redis}
        bare, _ = stack.enter_context(peer('bare', **environ))
        tutorial, _ = stack.enter_context(peer('tutorial', **environ))
        environ['BODY'] = f'{folder}/large'
        stream, _ = stack.enter_context(peer('stream', **environ))
        measure(
            {
                'bare': (f'{bare}/bytes',),
                'tutorial': (f'{tutorial}/bytes',),
                'thumbnail, in process': (ours + small,),
                'thumbnail, Redis only': (cold + small,),
                '304': (ours + small, f'If-None-Match: {etag}'),
                'streamed, 8 KiB': (f'{stream}/bytes',),
                'large image': (ours + large,),
            }
        )


def measure(asked: dict[str, tuple[str, ...]]) -> None:
    rounds: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(ROUNDS):
        for name, request in asked.items():
            rounds[name].append(rate(*request))
    for name, rates in rounds.items():
        print(f'{name:24} {statistics.median(rates):9.0f} requests/s')
    for name, other, least in COMPARED:
        ratios = [a / b for a, b in zip(rounds[name], rounds[other], strict=True)]
        ratio = statistics.median(ratios)
        print(f'{name} / {other}: {ratio:.2f} (wanted: {least})')


if __name__ == '__main__':
    main()
