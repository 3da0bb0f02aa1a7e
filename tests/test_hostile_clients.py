"""Clients that pipeline, fragment, offer upgrades, send trailers and hang up.

Set HOSTILE_REQUESTS for a longer run.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from . import samples
from .servers import HOST, Server, until

pytestmark = pytest.mark.integration

log = logging.getLogger(__name__)

REQUESTS = int(os.environ.get('HOSTILE_REQUESTS', '3000'))
CLIENTS = 16

INNER = b'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'
TRAILERS = b'X-Request-ID: trailer\r\nRange: bytes=0-0\r\nHost: other\r\n'
UPGRADES = [
    '',
    '',
    'Connection: Upgrade\r\nUpgrade: websocket\r\n',
    'Connection: keep-alive, upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n',
    'Upgrade: h2c\r\n',
]


class Request(NamedTuple):
    """A request, and the expected response."""

    name: str
    method: str
    data: bytes
    status: int


class Hostile:
    """A client that sends random requests, and checks the order of the responses."""

    def __init__(self, server: Server, seed: int) -> None:
        self._port = server.port
        self._random = random.Random(seed)
        self._seed = seed
        self._image = server.upload(samples.photo(128, 64))
        self._picture = samples.photo(8, 8)
        self.count = 0
        self.faults: list[str] = []
        self.statuses: collections.Counter[int] = collections.Counter()

    async def run(self, count: int) -> None:
        while self.count < count:
            requests = [self._request() for _ in range(self._random.randint(1, 12))]
            self.count += len(requests)
            try:
                async with asyncio.timeout(60):
                    await self._talk(requests)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as ex:
                self.faults.append(f'{ex!r} on {[x.name for x in requests]}')

    def _request(self) -> Request:
        rng = self._random
        self._name = name = f'{self._seed}-{self.count}-{rng.getrandbits(48):x}'
        status, method, path, body = rng.choice(
            [
                (200, 'GET', '/images?limit=2', b''),
                (200, 'GET', self._image['image'], b''),
                (200, 'HEAD', self._image['image'], b''),
                (200, 'GET', self._image['image'], INNER),
                (200, 'OPTIONS', '/images', b''),
                (404, 'GET', '/nothing', b''),
                (404, 'POST', '/nothing', INNER * rng.randint(0, 100)),
                (405, 'PUT', '/images', INNER),
                (415, 'POST', '/images', INNER),
                (400, 'POST', '/images', b''),
                (201, 'POST', '/images', self._picture)
                if rng.random() < 0.1
                else (415, 'POST', '/images', INNER * rng.randint(1, 2000)),
            ]
        )
        head = f'{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Request-ID: {name}\r\n'
        head += rng.choice(UPGRADES)
        if rng.random() < 0.1:
            head += 'Expect: 100-continue\r\n'
        if rng.random() < 0.5:
            head += 'Transfer-Encoding: chunked\r\n'
            content = b''.join(self._chunks(body))
        else:
            head += f'Content-Length: {len(body)}\r\n'
            content = body
        return Request(name, method, head.encode() + b'\r\n' + content, status)

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        for part in self._pieces(body, 5):
            yield b'%x\r\n%s\r\n' % (len(part), part)
        yield b'0\r\n' + self._random.choice([b'', TRAILERS]) + b'\r\n'

    def _pieces(self, data: bytes, most: int) -> Iterator[bytes]:
        """Cut data at random places."""
        cuts = [self._random.randint(0, len(data)) for _ in range(most - 1)]
        edges = [0, *sorted(cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            if start < end:
                yield data[start:end]

    async def _talk(self, requests: list[Request]) -> None:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        hangs_up = self._random.random() < 0.2
        data = b''.join(request.data for request in requests)
        if hangs_up:
            data = data[: self._random.randint(0, len(data))]
        sender = asyncio.create_task(self._send(writer, data))
        try:
            for request in requests[: self._random.randint(0, len(requests))]:
                if not hangs_up:
                    await self._check(reader, request)
            if hangs_up:
                await sender
                await asyncio.sleep(self._random.random() / 50)
        finally:
            sender.cancel()
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for piece in self._pieces(data, self._random.randint(1, 12)):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(self._random.choice([0, 0, 0.001]))

    async def _check(self, reader: asyncio.StreamReader, request: Request) -> None:
        head = await reader.readuntil(b'\r\n\r\n')
        if head.startswith(b'HTTP/1.1 100 '):
            head = await reader.readuntil(b'\r\n\r\n')
        lines = head.decode().lower().split('\r\n')
        headers = dict(line.split(': ', 1) for line in lines[1:] if line)
        status = int(lines[0].split()[1])
        if request.method != 'HEAD':
            await reader.readexactly(int(headers['content-length']))
        self.statuses[status] += 1
        if (status, headers.get('x-request-id')) != (request.status, request.name):
            self.faults.append(f'{request.name}: expected {request.status}: {head!r}')


class Usage(NamedTuple):
    """Memory in MB, and number of open files, of a process."""

    memory: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        status = Path(f'/proc/{pid}/status').read_text()
        memory = next(x for x in status.splitlines() if x.startswith('VmRSS'))
        return cls(int(memory.split()[1]) // 1024, len(os.listdir(f'/proc/{pid}/fd')))


async def run(clients: list[Hostile], count: int) -> None:
    await asyncio.gather(*(client.run(count // len(clients)) for client in clients))


async def test_hostile_clients(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        'access_log': 'none',
        'redis_host': 'none',
        'cache_memory': '4 MiB',
    }
    with Server(tmp_path, **settings) as server:
        await run([Hostile(server, 100 + n) for n in range(CLIENTS)], REQUESTS // 5)
        before = Usage.of(server.pid)
        clients = [Hostile(server, seed) for seed in range(CLIENTS)]
        await run(clients, REQUESTS)
        until(lambda: Usage.of(server.pid).files <= before.files)
        after = Usage.of(server.pid)
    statuses = sum((client.statuses for client in clients), collections.Counter())
    count = sum(client.count for client in clients)
    log.info('%d requests: %s; %s, then %s', count, statuses, before, after)
    faults = [fault for client in clients for fault in client.faults]
    assert faults == []
    assert {*statuses} <= {200, 201, 400, 404, 405, 415}
    assert after.memory - before.memory < 32
