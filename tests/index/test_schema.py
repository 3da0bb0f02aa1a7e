from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy.exc import DBAPIError

from asgilook.config import ConfigError
from asgilook.index import engine, schema

from ..databases import Database, PostgreSQL, SQLite, running

START = """
import asyncio, sys
from asgilook.index.database import DatabaseIndex

async def main():
    index = DatabaseIndex(sys.argv[1])
    print('ready', flush=True)
    sys.stdin.readline()
    await index.start()
    print((await index.page(1)).images, await index.is_usable())
    await index.stop()

asyncio.run(main())
"""


async def start(db: Database) -> None:
    async with running(db.url):
        pass


async def test_tables_are_created_once(db: Database) -> None:
    for _ in range(2):
        await start(db)
        assert db.execute('SELECT version FROM asgilook_schema') == [(1,)]
    assert db.execute('SELECT * FROM images') == []


async def test_id_is_a_uuid(postgresql_db: PostgreSQL) -> None:
    await start(postgresql_db)
    columns = postgresql_db.execute(
        'SELECT column_name, data_type FROM information_schema.columns '
        "WHERE table_name = 'images' AND table_schema = current_schema() "
        'ORDER BY ordinal_position'
    )
    assert columns == [
        ('id', 'uuid'),
        ('width', 'integer'),
        ('height', 'integer'),
        ('length', 'bigint'),
        ('modified_ns', 'bigint'),
    ]


@pytest.mark.parametrize(('comparison', 'order'), [('>', ''), ('<', 'DESC')])
async def test_pages_have_an_index(
    postgresql_db: PostgreSQL, comparison: str, order: str
) -> None:
    await start(postgresql_db)
    ((plan,),) = postgresql_db.execute(
        'INSERT INTO images SELECT gen_random_uuid(), 1, 1, 1, n '
        'FROM generate_series(1, 10000) AS n',
        'ANALYZE images',
        'EXPLAIN (FORMAT JSON) SELECT * FROM images WHERE (modified_ns, id) '
        f"{comparison} (5000, '00000000-0000-0000-0000-000000000000') "
        f'ORDER BY modified_ns {order}, id {order} LIMIT 10',
    )
    assert 'images_order' in plan
    assert 'Sort' not in plan


async def test_other_version_stops_start(db: Database) -> None:
    await start(db)
    db.execute(f'UPDATE asgilook_schema SET version = {schema.VERSION + 1}')
    with pytest.raises(
        ConfigError, match=r'version 2 of the tables.* supports version 1'
    ):
        await start(db)
    assert db.execute('SELECT version FROM asgilook_schema') == [(2,)]


async def test_table_of_another_program_stops_start(db: Database) -> None:
    db.execute('CREATE TABLE images (name text)', "INSERT INTO images VALUES ('x')")
    with pytest.raises(ConfigError, match=r'images.* already exists'):
        await start(db)
    assert db.execute('SELECT * FROM images') == [('x',)]
    names = {
        PostgreSQL: 'SELECT tablename FROM pg_tables '
        'WHERE schemaname = current_schema()',
        SQLite: "SELECT name FROM sqlite_master WHERE type = 'table'",
    }
    assert db.execute(names[type(db)]) == [('images',)]


async def test_start_waits_for_another_process(
    postgresql_db: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that times out leaves its connection usable."""
    monkeypatch.setattr(engine, 'STATEMENT_TIMEOUT', 0.2)
    connections = engine.Connections(postgresql_db.url)
    async with connections.connect() as connection:
        async with postgresql_db.creating_tables():
            with pytest.raises(DBAPIError, match='timeout'):
                await schema.prepare(connection)
        await connection.exec_driver_sql('SET statement_timeout = 0')
        await schema.prepare(connection)
    await connections.close()


def test_concurrent_starts(db: Database) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', START, db.url],
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
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert answers == ['[] True\n'] * 4
    assert db.execute('SELECT version FROM asgilook_schema') == [(1,)]
