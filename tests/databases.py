"""Databases for the tests: a SQLite file, or one of its own in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pytest

# A server where databases may be made and dropped.
SERVER = os.environ.get('TEST_DATABASE_URL', 'postgresql://postgres@127.0.0.1/postgres')


class PostgreSQL:
    """An empty database; the tests ask it past the service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port or 5432

    def at(self, port: int) -> str:
        """Return its URL on another port, where a proxy can read all."""
        parts = urlsplit(self.url)
        user = parts.netloc.rpartition('@')[0]
        return urlunsplit(
            parts._replace(netloc=f'{user}@127.0.0.1:{port}', query='sslmode=disable')
        )

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; return the last one's rows."""
        return execute(self.url, *statements)

    def connections(self) -> int:
        """Count the connections of the service."""
        ((count,),) = self.execute(
            'SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() '
            "AND application_name = 'asgilook'"
        )
        return int(count)


class SQLite:
    """A file, made at the first use; the tests ask it past the service."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def below(cls, folder: Path) -> Self:
        """Name a file that is not there yet, so that its name has to be quoted."""
        return cls(f'sqlite://{folder}/an%20index.db')

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, and commit; return the last one's rows."""
        path = unquote(urlsplit(self.url).path)
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            connection.commit()
        return rows


Database = PostgreSQL | SQLite


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in PostgreSQL; return the last one's rows."""

    async def main() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            for statement in statements:
                rows = await connection.fetch(statement)
        finally:
            await connection.close()
        return [tuple(row) for row in rows]

    with ThreadPoolExecutor(1) as executor:  # where no event loop runs yet
        return executor.submit(asyncio.run, main()).result()


@contextlib.contextmanager
def make_postgresql() -> Iterator[PostgreSQL]:
    """Make a database, and drop it; without a server, skip the test, or fail in CI."""
    name = f'asgilook_test_{uuid.uuid4().hex}'
    try:
        execute(SERVER, f'CREATE DATABASE {name}')
    except OSError as ex:
        if os.environ.get('CI') == 'true':
            pytest.fail(f'no PostgreSQL at {SERVER}: {ex}')
        pytest.skip(f'no PostgreSQL at {SERVER}')
    try:
        yield PostgreSQL(urlunsplit(urlsplit(SERVER)._replace(path=f'/{name}')))
    finally:
        execute(SERVER, f'DROP DATABASE {name} WITH (FORCE)')
