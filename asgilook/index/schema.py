"""The tables, created at start by the first process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Uuid,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..config import ConfigError

# Incremented with every change of the tables, so that an older program rejects them.
VERSION = 1

_TABLES = MetaData()

# As text in SQLite, which needs no conversion.
ID = Uuid(as_uuid=False).with_variant(CHAR(36), 'sqlite')

images = Table(
    'images',
    _TABLES,
    Column('id', ID, primary_key=True),
    Column('width', Integer, nullable=False),
    Column('height', Integer, nullable=False),
    Column('length', BigInteger, nullable=False),
    Column('modified_ns', BigInteger, nullable=False),
    Index('images_order', 'modified_ns', 'id'),
    sqlite_with_rowid=False,
)

_schema = Table('asgilook_schema', _TABLES, Column('version', Integer, nullable=False))

# Excludes other processes. The number is arbitrary, and not that of another program.
BEGIN = {
    'postgresql': ('BEGIN', 'SELECT pg_advisory_xact_lock(7236837467392746)'),
    'sqlite': ('BEGIN IMMEDIATE',),
}


async def prepare(connection: AsyncConnection) -> None:
    """Create missing tables; raises `ConfigError` if their version is another."""
    async with _exclusive(connection):
        if not await connection.run_sync(_exists):
            await connection.run_sync(_TABLES.create_all, checkfirst=False)
            await connection.execute(insert(_schema).values(version=VERSION))
        version = await connection.scalar(select(_schema.c.version))
    if version != VERSION:
        raise ConfigError(
            f'the database has version {version} of the tables, '
            f'but this asgilook supports version {VERSION}'
        )


def _exists(connection: Connection) -> bool:
    return inspect(connection).has_table(_schema.name)


@contextlib.asynccontextmanager
async def _exclusive(connection: AsyncConnection) -> AsyncIterator[None]:
    """Run a transaction on an autocommitting connection."""
    try:
        for statement in BEGIN[connection.dialect.name]:
            await connection.exec_driver_sql(statement)
        yield
    except BaseException:
        with contextlib.suppress(SQLAlchemyError):  # a lost connection rolls back
            await connection.exec_driver_sql('ROLLBACK')
        raise
    await connection.exec_driver_sql('COMMIT')
