"""Requests a second of the service against Falcon itself and the tutorial's way.

Run it as `python -m benchmarks.http`. Every server is one uvicorn worker; wrk asks them
in turn, in several rounds, and a ratio is the median of its rounds'. Needs wrk and
redis-server.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

from PIL import Image

ROUNDS = 9
SECONDS = 2
CONNECTIONS = 16

COMPARED = [
    ('thumbnail, in process', 'tutorial', 1.5),
    ('thumbnail, in process', 'bare', 0.75),
    ('thumbnail, Redis only', 'tutorial', 1.0),
    ('304', 'bare', 0.75),
    ('2.3 MB image', 'streamed, 8 KiB', 8.0),
]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(
            ('127.0.0.1', port)
        ):
            return
        time.sleep(0.05)
    raise SystemExit(f'nothing answers on port {port}')


@contextlib.contextmanager
def process(port: int, *command: str, **environ: str) -> Iterator[str]:
    with subprocess.Popen(
        command,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            wait_for(port)
            yield f'http://127.0.0.1:{port}'
        finally:
            running.terminate()


def uvicorn(app: str, **environ: str) -> contextlib.AbstractContextManager[str]:
    port = free_port()
    command = [sys.executable, '-m', 'uvicorn', app, '--port', str(port)]
    command += ['--no-access-log', '--log-level', 'warning']
    if app.startswith('benchmarks.'):
        command.append('--factory')
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
    file = io.BytesIO()
    noise = Image.effect_noise((width // 4, height // 4), 60).resize((width, height))
    Image.merge('RGB', [noise, noise.rotate(180), noise]).save(
        file, 'JPEG', quality=quality
    )
    return file.getvalue()


def fetch(url: str) -> tuple[bytes, str]:
    with urllib.request.urlopen(url) as response:
        return response.read(), response.headers['ETag']


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis_port = free_port()
        redis = f'redis://127.0.0.1:{redis_port}'
        stack.enter_context(
            process(
                redis_port, 'redis-server', '--port', str(redis_port), '--save', ''
            )
        )
        settings = {
            'ASGI_LOOK_STORAGE_PATH': f'{folder}/images',
            'ASGI_LOOK_REDIS_HOST': redis,
        }
        app = 'asgilook.asgi:app'
        ours = stack.enter_context(uvicorn(app, **settings))
        cold = stack.enter_context(
            uvicorn(app, **settings, ASGI_LOOK_CACHE_MEMORY='0')
        )
        small = upload(ours, picture(640, 360, 80))['thumbnails'][0]
        body, etag = fetch(ours + small)
        large = upload(ours, picture(4000, 3000, 75))['image']
        large_body, _ = fetch(ours + large)
        for name, content in ('small', body), ('large', large_body):
            with open(f'{folder}/{name}', 'wb') as file:
                file.write(content)
        print(f'thumbnail {len(body)} bytes, image {len(large_body)} bytes')
        peers = {'BODY': f'{folder}/small', 'REDIS': redis}
        bare = stack.enter_context(uvicorn('benchmarks.http_peers:bare', **peers))
        tutorial = stack.enter_context(uvicorn('benchmarks.http_peers:tutorial', **peers))
        peers['BODY'] = f'{folder}/large'
        stream = stack.enter_context(uvicorn('benchmarks.http_peers:stream', **peers))
        measure(
            {
                'bare': (f'{bare}/bytes',),
                'tutorial': (f'{tutorial}/bytes',),
                'thumbnail, in process': (ours + small,),
                'thumbnail, Redis only': (cold + small,),
                '304': (ours + small, f'If-None-Match: {etag}'),
                'streamed, 8 KiB': (f'{stream}/bytes',),
                '2.3 MB image': (ours + large,),
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
