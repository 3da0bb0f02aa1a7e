"""Direct access of the tests to the databases of the service."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

from asgilook.index import schema
from asgilook.index.database import DatabaseIndex

from . import backends


class PostgreSQL:
    """A schema in a real PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port or 5432

    def at(self, port: int) -> str:
        """Return its URL on the port of a proxy, without encryption."""
        parts = urlsplit(self.url)
        user = parts.netloc.rpartition('@')[0]
        netloc, query = f'{user}@127.0.0.1:{port}', f'{parts.query}&sslmode=disable'
        return urlunsplit(parts._replace(netloc=netloc, query=query))

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a new connection; return the rows of the last one."""
        with ThreadPoolExecutor(1) as executor:  # in a thread without an event loop
            rows = executor.submit(backends.sql, self.url, *statements).result()
        return [tuple(row) for row in rows]

    def connections(self) -> int:
        """Count the connections of the service."""
        ((count,),) = self.execute(
            'SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() '
            "AND application_name = 'asgilook'"
        )
        return int(count)

    def end_connections(self) -> None:
        """End the connections of the service."""
        self.execute(
            'SELECT pg_terminate_backend(pid) FROM pg_stat_activity '
            "WHERE datname = current_database() AND application_name = 'asgilook'"
        )

    @contextlib.contextmanager
    def role(self, options: str = '') -> Iterator[str]:
        """Create a role that may use the schema; yield its name."""
        name = f'asgilook_test_{uuid.uuid4().hex}'
        (path,) = parse_qs(urlsplit(self.url).query)['search_path']
        self.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD 'postgres' {options}",
            f'GRANT ALL ON SCHEMA {path} TO {name}',
        )
        try:
            yield name
        finally:
            self.end_connections()
            self.execute(f'DROP OWNED BY {name}', f'DROP ROLE {name}')

    def as_role(self, name: str) -> str:
        """Return its URL for a role."""
        return self.url.replace('//postgres:', f'//{name}:')

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Block every statement on the images."""
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                await connection.execute('LOCK TABLE images')
                yield
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def creating_tables(self) -> AsyncIterator[None]:
        """Hold the lock of a process that creates the tables: another one waits."""
        (lock,) = schema.BEGIN['postgresql'][1:]
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                await connection.execute(lock)
                yield
        finally:
            await connection.close()


class SQLite:
    """A file, created at its first use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = urlsplit(url).path

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, and commit; return the rows of the last one."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            connection.commit()
        return rows


Database = PostgreSQL | SQLite


@contextlib.asynccontextmanager
async def running(url: str) -> AsyncIterator[DatabaseIndex]:
    """Return an index that is started, and stop it at the end."""
    index = DatabaseIndex(url)
    await index.start()
    try:
        yield index
    finally:
        await index.stop()
