"""The cost of an index of many images: pages of the list, inserts, look-ups, counting.

Run it with `python -m benchmarks.index [ROWS ...]`. It creates an SQLite file, and a
database on the PostgreSQL server of `TEST_DATABASE_URL`, and removes both.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from asgilook.index.database import DatabaseIndex
from asgilook.models import Image

SERVER = os.environ.get(
    'TEST_DATABASE_URL', 'postgresql://postgres:postgres@127.0.0.1/postgres'
)
PAGE = 100
REPEATS = 300

# Time of the first image, and from each to the next, in nanoseconds.
FIRST, STEP = 1_700_000_000_000_000_000, 10**6

COLUMNS = (
    'oldest',
    'oldest after',
    'newest',
    'newest after',
    'insert',
    'look-up',
    '1000 images',
    'count',
)


class Database(Protocol):
    name: str
    url: str

    async def fill(self, count: int) -> None:
        """Insert rows."""

    async def size(self) -> int:
        """Return the size of table and indexes in bytes."""


Making = contextlib.AbstractAsyncContextManager[Database]


class SQLite:
    name = 'SQLite'

    def __init__(self, folder: str) -> None:
        self._path = f'{folder}/index.db'
        self.url = f'sqlite://{self._path}'

    async def fill(self, count: int) -> None:
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            rows = (
                (
                    image_id(number),
                    4000,
                    3000,
                    2_300_000,
                    FIRST + STEP * number,
                )
                for number in range(count)
            )
            connection.executemany('INSERT INTO images VALUES (?, ?, ?, ?, ?)', rows)
            connection.commit()
            connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')

    async def size(self) -> int:
        return os.path.getsize(self._path)  # noqa: ASYNC240


class PostgreSQL:
    name = 'PostgreSQL'

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self.url = url
        self._connection = connection

    async def fill(self, count: int) -> None:
        await self._connection.execute(
            'INSERT INTO images '
            f'SELECT md5(n::text)::uuid, 4000, 3000, 2300000, {FIRST} + {STEP} * n '
            f'FROM generate_series(0, {count - 1}::bigint) AS n'
        )
        await self._connection.execute('VACUUM ANALYZE images')

    async def size(self) -> int:
        query = "SELECT pg_total_relation_size('images')"
        return int(await self._connection.fetchval(query))


@contextlib.asynccontextmanager
async def sqlite() -> AsyncIterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        yield SQLite(folder)


@contextlib.asynccontextmanager
async def postgresql() -> AsyncIterator[Database]:
    name = f'asgilook_benchmark_{uuid.uuid4().hex}'
    server = await asyncpg.connect(SERVER)
    await server.execute(f'CREATE DATABASE {name}')
    try:
        url = urlunsplit(urlsplit(SERVER)._replace(path=f'/{name}'))
        connection = await asyncpg.connect(url)
        try:
            yield PostgreSQL(url, connection)
        finally:
            await connection.close()
    finally:
        await server.execute(f'DROP DATABASE {name} WITH (FORCE)')
        await server.close()


def actions(index: DatabaseIndex, rows: int) -> list[Callable[[], Awaitable[object]]]:
    """Return the actions to measure."""

    def anywhere() -> str:
        return image_id(random.randrange(rows))

    def middle() -> str:
        return image_id(rows // 2 + random.randrange(-rows // 10, rows // 10))

    def fresh() -> Image:
        return Image(str(uuid.uuid4()), (4000, 3000), 2_300_000, time.time_ns())

    return [
        lambda: index.page(PAGE),
        lambda: index.page(PAGE, middle()),
        lambda: index.page(PAGE, newest=True),
        lambda: index.page(PAGE, middle(), newest=True),
        lambda: index.add(fresh()),
        lambda: index.get(anywhere()),
        lambda: index.page(1000),
        index.count,
    ]


async def take_turns(rivals: Iterable[Callable[[], Awaitable[object]]]) -> list[float]:
    """Return the median of each in milliseconds; they alternate."""
    times: dict[Callable[[], Awaitable[object]], list[float]] = {r: [] for r in rivals}
    for _ in range(REPEATS):
        for action, taken in times.items():
            start = time.perf_counter()
            await action()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) * 1000 for taken in times.values()]


def image_id(number: int) -> str:
    """Return an id that looks random, as those of uploads."""
    return str(uuid.UUID(hashlib.md5(str(number).encode()).hexdigest()))


async def compare(make: Callable[[], Making], counts: list[int]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sizes, rivals = [], []
        for count in counts:
            database = await stack.enter_async_context(make())
            index = DatabaseIndex(database.url)
            await index.start()
            stack.push_async_callback(index.stop)
            await database.fill(count)
            sizes.append(await database.size())
            rivals.append(actions(index, count))
        columns = [await take_turns(column) for column in zip(*rivals, strict=True)]
    for row, count in enumerate(counts):
        cells = (
            f'{times[row]:6.2f} ({times[row] / times[0]:.1f})' for times in columns
        )
        print(
            f'{database.name:10} {count:8}', *(f'{cell:>14}' for cell in cells), end=''
        )
        print(f'{sizes[row] / count:10.0f}')


async def main() -> None:
    counts = [int(value) for value in sys.argv[1:]] or [1000, 100_000, 1_000_000]
    print(f'Milliseconds (ratio to {counts[0]} rows); a page has {PAGE} images')
    print(f'{"":10} {"rows":>8}', *(f'{name:>14}' for name in COLUMNS), ' bytes/row')
    for make in (sqlite, postgresql):
        await compare(make, counts)


if __name__ == '__main__':
    asyncio.run(main())
