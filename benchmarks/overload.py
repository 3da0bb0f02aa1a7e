"""Overload: ten times as many renders are requested as the service can do.

Run it as `python -m benchmarks.overload`. Large thumbnails exceed `cache_body_size`
here, so each request renders them; small ones are hits.
"""

from __future__ import annotations

import asyncio
import collections
import json
import statistics
import tempfile
import time
import urllib.request

from PIL import Image

from .processes import encode, peak_rss, service

SECONDS = 30
# More than the queue holds: concurrent requests for one thumbnail share one render.
IMAGES = 100
FACTOR = 10

Sample = tuple[int, float, bool]


async def get(port: int, path: str) -> Sample:
    """Return status, seconds, and whether there was a Retry-After."""
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    try:
        head = f'GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
        writer.write(head.encode())
        answer = await reader.read()
    finally:
        writer.close()
    seconds = time.perf_counter() - start
    return int(answer[9:12]), seconds, b'retry-after' in answer[:1000].lower()


async def capacity(port: int, large: list[str]) -> float:
    """Return the renders per second with as many clients as threads."""
    start = time.perf_counter()
    for first, second in zip(large[::2], large[1::2], strict=True):
        await asyncio.gather(get(port, first), get(port, second))
    return len(large) / (time.perf_counter() - start)


async def probe(port: int, path: str, until: float) -> list[float]:
    """Request one URL repeatedly, one request at a time; return the durations."""
    times = []
    while time.perf_counter() < until:
        status, seconds, _ = await get(port, path)
        assert status == 200, status
        times.append(seconds)
        await asyncio.sleep(0.01)
    return times


async def load(port: int, large: list[str], rate: float, until: float) -> list[Sample]:
    """Request renders at a fixed rate, without waiting for responses."""
    tasks = []
    start = time.perf_counter()
    while (now := time.perf_counter()) < until:
        while len(tasks) < (now - start) * rate:
            path = large[len(tasks) % len(large)]
            tasks.append(asyncio.create_task(get(port, path)))
        await asyncio.sleep(0.005)
    return list(await asyncio.gather(*tasks))


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98] * 1000


async def run(port: int, pid: int, large: list[str], small: str) -> None:
    await get(port, small)
    until = time.perf_counter() + 5
    hits, health = await asyncio.gather(
        probe(port, small, until), probe(port, '/healthz/live', until)
    )
    rate = await capacity(port, large)
    print(f'capacity: {rate:.0f} renders/s; load: {FACTOR * rate:.0f} requests/s')
    until = time.perf_counter() + SECONDS
    busy_hits, busy_health, answers = await asyncio.gather(
        probe(port, small, until),
        probe(port, '/healthz/live', until),
        load(port, large, FACTOR * rate, until),
    )
    for name, idle, busy in ('hit', hits, busy_hits), ('health', health, busy_health):
        ratio = p99(busy) / p99(idle)
        print(
            f'p99 of a {name}: {p99(idle):.1f} ms idle, {p99(busy):.1f} ms under load: '
            f'{ratio:.1f} times (target: below 10)'
        )
    print('responses:', dict(collections.Counter(status for status, *_ in answers)))
    rejected = [seconds for status, seconds, _ in answers if status == 503]
    honest = all(retry for status, _, retry in answers if status == 503)
    slowest = max(rejected, default=0)
    print(f'slowest rejection: {slowest:.2f} s, all with Retry-After: {honest}')
    print(f'peak RSS: {peak_rss(pid):.0f} MB')
    await asyncio.sleep(2)
    status, seconds, _ = await get(port, large[0])
    print(f'2 s later: {status} in {seconds * 1000:.0f} ms')


def main() -> None:
    noise = Image.effect_noise((1000, 750), 60).resize((4000, 3000))
    body = encode(Image.merge('RGB', [noise, noise.rotate(180), noise]), 75)
    with (
        tempfile.TemporaryDirectory() as folder,
        service(folder, ASGI_LOOK_CACHE_BODY_SIZE='64 KiB') as (url, pid),
    ):
        thumbnails = []
        for _ in range(IMAGES):
            request = urllib.request.Request(f'{url}/images', body, method='POST')
            with urllib.request.urlopen(request) as response:
                thumbnails.append(json.load(response)['thumbnails'])
        large = [sizes[0] for sizes in thumbnails]
        asyncio.run(run(int(url.rpartition(':')[2]), pid, large, thumbnails[0][4]))


if __name__ == '__main__':
    main()
