"""Databases of a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import asyncpg
import pytest

# Without the password where it trusts.
POSTGRES = 'postgresql://postgres:postgres@127.0.0.1:5432'


def sql(url: str, *statements: str) -> list[Any]:
    """Run statements, each committed by itself; return the rows of the last one."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=60)
        try:
            for statement in statements:
                rows = await connection.fetch(statement)
        finally:
            await connection.close()
        return list(rows)

    return asyncio.run(run())


def _give_up(ex: Exception) -> NoReturn:
    """Skip the test, but fail in CI."""
    reason = f'no PostgreSQL at {POSTGRES}: {ex!r}'
    if os.environ.get('CI') == 'true':
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def database() -> Iterator[str]:
    """Make a database on the PostgreSQL of this machine, and drop it at the end."""
    name = f'asgilook_test_{uuid.uuid4().hex}'
    try:
        sql(f'{POSTGRES}/postgres', f'CREATE DATABASE {name}')
    except (OSError, asyncpg.PostgresError) as ex:
        _give_up(ex)
    try:
        yield f'{POSTGRES}/{name}'
    finally:
        sql(f'{POSTGRES}/postgres', f'DROP DATABASE {name} WITH (FORCE)')


@contextmanager
def schema(url: str) -> Iterator[str]:
    """Make a schema in a database; return the URL of a database that is only it."""
    name = f'test_{uuid.uuid4().hex}'
    sql(url, f'CREATE SCHEMA {name}')
    try:
        yield f'{url}?search_path={name}'
    finally:
        sql(url, f'DROP SCHEMA {name} CASCADE')
