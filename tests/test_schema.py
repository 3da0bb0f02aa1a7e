from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from asgilook import schema
from asgilook.config import ConfigError
from asgilook.database import DatabaseIndex

from .conftest import apart
from .databases import Database, PostgreSQL, SQLite

START = """
import asyncio, sys
from asgilook.database import DatabaseIndex

async def main():
    index = DatabaseIndex(sys.argv[1])
    print('ready', flush=True)
    sys.stdin.readline()
    await index.start()
    print((await index.page(1)).images, await index.is_usable())
    await index.stop()

asyncio.run(main())
"""


def start(database: Database) -> None:
    async def main() -> None:
        index = DatabaseIndex(database.url)
        await index.start()
        await index.stop()

    apart(asyncio.run, main())


def test_tables_are_made_once(database: Database) -> None:
    for _ in range(2):
        start(database)
        assert database.execute('SELECT version FROM asgilook_schema') == [(1,)]
    assert database.execute('SELECT * FROM images') == []


def test_id_is_a_uuid(postgresql: PostgreSQL) -> None:
    start(postgresql)
    columns = postgresql.execute(
        'SELECT column_name, data_type FROM information_schema.columns '
        "WHERE table_name = 'images' ORDER BY ordinal_position"
    )
    assert columns == [
        ('id', 'uuid'),
        ('width', 'integer'),
        ('height', 'integer'),
        ('length', 'bigint'),
        ('modified_ns', 'bigint'),
    ]


def test_pages_have_an_index(postgresql: PostgreSQL) -> None:
    start(postgresql)
    ((plan,),) = postgresql.execute(
        'INSERT INTO images SELECT gen_random_uuid(), 1, 1, 1, n '
        'FROM generate_series(1, 10000) AS n',
        'ANALYZE images',
        'EXPLAIN (FORMAT JSON) SELECT * FROM images '
        "WHERE (modified_ns, id) > (5000, '00000000-0000-0000-0000-000000000000') "
        'ORDER BY modified_ns, id LIMIT 10',
    )
    assert 'images_order' in plan
    assert 'Sort' not in plan


def test_other_version_stops_the_start(database: Database) -> None:
    start(database)
    database.execute(f'UPDATE asgilook_schema SET version = {schema.VERSION + 1}')
    with pytest.raises(ConfigError, match=r'version 2 of the tables.* knows version 1'):
        start(database)
    assert database.execute('SELECT version FROM asgilook_schema') == [(2,)]


def test_table_of_another_program_stops_the_start(database: Database) -> None:
    database.execute(
        'CREATE TABLE images (name text)', "INSERT INTO images VALUES ('x')"
    )
    with pytest.raises(ConfigError, match=r'images.* already exists'):
        start(database)
    assert database.execute('SELECT * FROM images') == [('x',)]
    names = {
        PostgreSQL: "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        SQLite: "SELECT name FROM sqlite_master WHERE type = 'table'",
    }
    assert database.execute(names[type(database)]) == [('images',)]


def test_processes_that_start_at_once(database: Database) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', START, database.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        assert process.stdin
        process.stdin.write('\n')
        process.stdin.flush()
    answers = [process.communicate(timeout=30)[0] for process in processes]
    assert answers == ['[] True\n'] * 4
    assert database.execute('SELECT version FROM asgilook_schema') == [(1,)]
