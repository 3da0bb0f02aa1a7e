"""Requests per second of cached responses, against bare Falcon and the tutorial.

Run it as `python -m benchmarks.http`. Every server is one uvicorn worker; wrk loads
them in turn, in several rounds, and a ratio is the median of the ratios of each round.
Needs wrk and redis-server; with nginx, it also measures through `deploy/nginx.conf`
with nginx's own cache off.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from PIL import Image

from .processes import encode, free_port, process, service

ROUNDS = 3
SECONDS = 2
CONNECTIONS = 16
LISTED = 24

# What a browser sends for an image, and what deploy/nginx.conf adds.
BROWSER = (
    'X-Request-ID: b1946ac92492d2347c6235b4d2611184',
    'X-Forwarded-For: 203.0.113.7',
    'X-Forwarded-Proto: https',
    'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0',
    'Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5',
    'Accept-Language: en-GB,en;q=0.7',
    'Accept-Encoding: gzip, deflate, br, zstd',
    'Cookie: session=0123456789abcdef',
    'Sec-Fetch-Dest: image',
    'Sec-Fetch-Mode: no-cors',
    'Sec-Fetch-Site: same-origin',
)

# Measured, compared with, and the lowest ratio that is aimed at.
COMPARED = [
    ('thumbnail', 'bare Falcon', 1.0),
    ('thumbnail, browser', 'bare Falcon', 0.9),
    ('thumbnail, browser', 'bare Falcon, browser', 1.0),
    ('thumbnail', 'tutorial thumbnail', 1.5),
    ('thumbnail, Redis only', 'tutorial thumbnail', 1.0),
    ('304', 'bare Falcon', 1.2),
    ('304, browser', 'bare Falcon', 0.9),
    ('list', 'tutorial list', 1.0),
    ('list, browser', 'tutorial list', 0.9),
    ('large image', 'tutorial large image', 5.0),
    ('thumbnail, nginx', 'bare Falcon, nginx', 1.0),
]

Requests = dict[str, tuple[str, ...]]


def peer(
    name: str, **environ: str
) -> contextlib.AbstractContextManager[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, '-m', 'uvicorn', f'benchmarks.http_peers:{name}']
    command += ['--factory', '--port', str(port)]
    command += ['--no-access-log', '--log-level', 'warning']
    return process(port, *command, **environ)


def nginx(
    folder: Path, upstream: str
) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Run nginx with the project's configuration, without TLS and its own cache."""
    port = free_port()
    site = Path('deploy/nginx.conf').read_text()
    site = re.sub(r'server \{\s+listen 80;.*?\n\}\n', '', site, flags=re.DOTALL)
    site = re.sub(r'^\s*listen \[.*?;\n', '', site, flags=re.MULTILINE)
    unused = r'^\s*(proxy_cache|proxy_ignore|ssl_|add_header).*?;\n'
    site = re.sub(unused, '', site, flags=re.DOTALL | re.MULTILINE)
    site = site.replace('127.0.0.1:8000', upstream.removeprefix('http://'), 1)
    site = site.replace('listen 443 ssl http2', f'listen 127.0.0.1:{port}')
    config = folder / f'nginx-{port}.conf'
    config.write_text(
        f'daemon off; worker_processes 1; pid {folder}/nginx-{port}.pid;'
        f'error_log {folder}/nginx.log; events {{}} http {{ access_log off;'
        f'client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;'
        f'fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;'
        f'scgi_temp_path {folder}/s; {site} }}'
    )
    return process(port, 'nginx', '-c', str(config), '-e', f'{folder}/nginx.log')


def rate(url: str, *headers: str) -> float:
    command = ['wrk', '-t1', f'-c{CONNECTIONS}', f'-d{SECONDS}']
    for header in headers:
        command += ['-H', header]
    printed = subprocess.run(
        [*command, url], check=True, capture_output=True, text=True
    ).stdout
    unmodified = any(header.startswith('If-None-Match') for header in headers)
    if 'Non-2xx' in printed and not unmodified:
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
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        redis_server = ['redis-server', '--port', str(port), '--save', '']
        stack.enter_context(process(port, *redis_server))
        redis = f'redis://127.0.0.1:{port}'
        settings = {'ASGI_LOOK_REDIS_HOST': redis}
        ours, _ = stack.enter_context(service(f'{folder}/images', **settings))
        settings['ASGI_LOOK_CACHE_MEMORY'] = '0'
        redis_only, _ = stack.enter_context(service(f'{folder}/images', **settings))
        thumbnail = upload(ours, picture(640, 360, 80))['thumbnails'][0]
        large = upload(ours, picture(4000, 3000, 78))['image']
        for _ in range(LISTED - 2):
            upload(ours, picture(640, 360, 80))
        urls: dict[str, str] = {}
        etag = ''
        for name, path in (
            ('thumbnail', thumbnail),
            ('list', '/images'),
            ('large image', large),
        ):
            body, tag = fetch(ours + path)
            etag = tag if name == 'thumbnail' else etag
            (folder / name).write_bytes(body)
            print(f'{name}: {len(body)} bytes')
            environ = {'BODY': f'{folder}/{name}', 'REDIS': redis, 'NAME': name}
            for kind in ('bare', 'tutorial'):
                urls[f'{kind} {name}'], _ = stack.enter_context(peer(kind, **environ))
        environ = {'BODY': f'{folder}/large image'}
        stream, _ = stack.enter_context(peer('stream', **environ))
        bare = urls['bare thumbnail'] + '/bytes'
        unmodified = f'If-None-Match: {etag}'
        requests: Requests = {
            'bare Falcon': (bare,),
            'bare Falcon, browser': (bare, *BROWSER),
            'tutorial thumbnail': (urls['tutorial thumbnail'] + '/bytes',),
            'thumbnail': (ours + thumbnail,),
            'thumbnail, browser': (ours + thumbnail, *BROWSER),
            'thumbnail, Redis only': (redis_only + thumbnail,),
            '304': (ours + thumbnail, unmodified),
            '304, browser': (ours + thumbnail, unmodified, *BROWSER),
            'tutorial list': (urls['tutorial list'] + '/bytes',),
            'list': (ours + '/images',),
            'list, browser': (ours + '/images', *BROWSER),
            'tutorial large image': (f'{stream}/bytes',),
            'large image': (ours + large,),
        }
        if shutil.which('nginx'):
            proxied, _ = stack.enter_context(nginx(folder, ours))
            peer_proxied, _ = stack.enter_context(nginx(folder, urls['bare thumbnail']))
            requests['bare Falcon, nginx'] = (peer_proxied + '/bytes', *BROWSER[3:])
            requests['thumbnail, nginx'] = (proxied + thumbnail, *BROWSER[3:])
        measure(requests)


def measure(requests: Requests) -> None:
    rounds: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(ROUNDS):
        for name, request in requests.items():
            rounds[name].append(rate(*request))
    for name, rates in rounds.items():
        print(f'{name:24} {statistics.median(rates):9.0f} requests/s')
    for name, other, target in COMPARED:
        if name in rounds:
            pairs = zip(rounds[name], rounds[other], strict=True)
            ratio = statistics.median(one / two for one, two in pairs)
            print(f'{name} / {other}: {ratio:.2f} (target: {target})')


if __name__ == '__main__':
    main()
