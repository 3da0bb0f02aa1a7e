"""An SQLAlchemy engine for PostgreSQL or SQLite, and what their errors mean.

Every statement is a transaction of its own (autocommit): one round trip, and what it
has done is durable when it has been answered.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import aiosqlite  # noqa: F401 (missed here, rather than at the first use)
import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

# Seconds without an answer, after which a database counts as gone: more than a wait for
# a connection and a statement together, as one that is only locked is not gone.
PATIENCE = 3.5

# Seconds after which a database that lives says that a statement takes too long: so
# it is told from a dead one, and nothing that was given up is done later.
STATEMENT_SECONDS = 1.5

# Connections of a process. A statement takes about a millisecond, where the pixels of
# an upload take tens of them, and look-ups share one; so these keep up with any number
# of threads, and twenty processes fit into PostgreSQL's own limit of a hundred.
CONNECTIONS = 5

_LOST = (
    '08',  # connection exceptions
    '57P01',  # shutting down
    '57P02',  # another connection has crashed
)

_GONE = (
    '25006',  # read-only: another server has become the first one
    '53200',  # out of memory
    '53300',  # too many connections
    '57P03',  # starting up
    'SQLITE_BUSY',
    'SQLITE_LOCKED',
)

_FULL = ('53100', 'SQLITE_FULL')


def make_engine(url: str, connections: WeakSet[Any]) -> AsyncEngine:
    """Make an engine that connects at its first use.

    Its connections to a server are added to `connections`. Raises OSError where the
    file of SQLite can't be written to.
    """
    kind = _sqlite if urlsplit(url).scheme == 'sqlite' else _postgresql
    return kind(url, connections)


def _postgresql(url: str, connections: WeakSet[Any]) -> AsyncEngine:
    async def connect() -> Any:
        """Connect as libpq would: asyncpg knows the URL's parameters by its names."""
        settings = {
            'application_name': 'asgilook',
            'statement_timeout': str(round(STATEMENT_SECONDS * 1000)),
        }
        connection = await asyncpg.connect(
            url, timeout=PATIENCE, server_settings=settings
        )
        connections.add(connection)
        return connection

    engine = _engine(URL.create('postgresql+asyncpg'), async_creator=connect)

    @event.listens_for(engine.sync_engine, 'checkout')
    def check(connection: Any, record: Any, proxy: object) -> None:
        """Let the pool replace a connection that is known to be closed."""
        if record.driver_connection.is_closed():
            raise DisconnectionError

    return engine


def _sqlite(url: str, connections: WeakSet[Any]) -> AsyncEngine:
    path = unquote(urlsplit(url).path)
    open(path, 'ab').close()  # where that fails, aiosqlite leaves a thread behind
    target = URL.create('sqlite+aiosqlite', database=path)
    engine = _engine(target, connect_args={'timeout': STATEMENT_SECONDS})

    @event.listens_for(engine.sync_engine, 'connect')
    def configure(connection: Any, record: object) -> None:
        """Let others read while one writes, and flush each commit to the disk."""
        cursor = connection.cursor()
        cursor.execute('PRAGMA journal_mode = WAL')
        cursor.execute('PRAGMA synchronous = FULL')
        cursor.close()

    return engine


def _engine(url: URL, **options: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        isolation_level='AUTOCOMMIT',
        skip_autocommit_rollback=True,  # it would cost a round trip each
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=STATEMENT_SECONDS,
        **options,
    )


def is_lost(ex: Exception) -> bool:
    """Tell whether the connection has ended: what it did last isn't known."""
    if isinstance(ex, DBAPIError):
        return ex.connection_invalidated or _code(ex).startswith(_LOST)
    return isinstance(ex, OSError)


def is_gone(ex: Exception) -> bool:
    """Tell whether the database can't be reached, for whatever it is asked."""
    return is_lost(ex) or _code(ex).startswith(_GONE)


def is_full(ex: Exception) -> bool:
    """Tell whether the database has no room left."""
    return _code(ex).startswith(_FULL)


def reason(ex: BaseException) -> str:
    """Say in one line what is wrong, without the statement."""
    original = getattr(ex, 'driver_exception', None) or ex
    return ' '.join(str(original).split()) or type(original).__name__


def _code(ex: Exception) -> str:
    """Return the SQLSTATE of an error, or SQLite's name for it."""
    original = getattr(ex, 'orig', None)
    code = getattr(original, 'sqlstate', getattr(original, 'sqlite_errorname', None))
    return code or ''
