"""The connections to PostgreSQL or SQLite: how they are made, shared and replaced.

Every statement is a transaction of its own (autocommit): it takes one round trip, and
its effect is durable once the database has responded.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosqlite  # noqa: F401 (a missing driver is reported here, not at first use)
import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from .sqlstate import is_connection_limit

# Time limit of a statement, enforced by the server, in seconds. A server that enforces
# it is alive, and a statement that was given up is not executed later.
STATEMENT_TIMEOUT = 1.5

# How long a database may not respond before it counts as unavailable, in seconds:
# longer than the time limit of a statement, so that a locked table is no outage.
TIMEOUT = 3.5

# Maximum wait for a free connection, in seconds: more than TIMEOUT, so that a frozen
# server is detected before the calls that wait for its connections fail.
CHECKOUT_TIMEOUT = 5.0

# Connections of one process. A statement takes about a millisecond, and concurrent
# look-ups share one, so that these serve any number of threads; and twenty processes
# stay within PostgreSQL's default limit of a hundred connections.
MAX_CONNECTIONS = 5

# Pause before a connection is requested again after the database rejected one because
# there were too many, in seconds.
LIMIT_RETRY_DELAY = 0.5


class Connections:
    """The connections of one process to a database, opened at their first use.

    Args:
        url: `postgresql://user:password@host/name`, or `sqlite:///absolute/path`.

    Raises OSError if the file of an SQLite database can't be written.
    """

    def __init__(self, url: str) -> None:
        kind = _sqlite if urlsplit(url).scheme == 'sqlite' else _postgresql
        self._engine = kind(url)
        self._permits = asyncio.Semaphore(MAX_CONNECTIONS)
        self._withheld = 0
        self._generation = 0
        self._outages = 0
        event.listen(self._engine.sync_engine, 'connect', self._on_connect)
        event.listen(self._engine.sync_engine, 'checkout', self._on_checkout)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Check out a connection; wait for a free one, and open it if necessary.

        Raises SQLAlchemyError, also if none becomes free in time, or OSError.
        """
        connection = await self._check_out()
        try:
            async with contextlib.aclosing(connection):
                yield connection
        finally:
            self._permits.release()

    def replace(self) -> None:
        """Replace every connection before its next use."""
        self._generation += 1

    def lose(self) -> None:
        """Replace every connection, and fail the calls that wait for one."""
        self._outages += 1
        self.replace()

    async def close(self) -> None:
        """Wait for the connections in use, which is limited in time, and close all."""
        for _ in range(MAX_CONNECTIONS - self._withheld):
            await self._permits.acquire()
        await self._engine.dispose()

    async def _check_out(self) -> AsyncConnection:
        outages = self._outages
        deadline = asyncio.get_running_loop().time() + CHECKOUT_TIMEOUT
        while True:
            await self._acquire(deadline)
            try:
                if outages != self._outages:
                    raise ConnectionError('the connections were lost meanwhile')
                async with asyncio.timeout(TIMEOUT):
                    return await self._engine.connect()
            except BaseException as ex:
                if not is_connection_limit(ex):
                    self._permits.release()
                    raise
                self._withhold_permit()

    async def _acquire(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._permits.acquire()
        except TimeoutError:
            if self._withheld == MAX_CONNECTIONS:
                raise ConnectionError('too many connections') from None
            message = f'no connection was free in {CHECKOUT_TIMEOUT:g} s'
            raise PoolTimeoutError(message) from None

    def _withhold_permit(self) -> None:
        """Use fewer connections for a moment, as the database rejected another one."""
        self._withheld += 1
        asyncio.get_running_loop().call_later(LIMIT_RETRY_DELAY, self._return_permit)

    def _return_permit(self) -> None:
        self._withheld -= 1
        self._permits.release()

    def _on_connect(self, connection: object, record: ConnectionPoolEntry) -> None:
        record.info['generation'] = self._generation

    def _on_checkout(
        self, connection: object, record: ConnectionPoolEntry, proxy: object
    ) -> None:
        if record.info['generation'] != self._generation:
            raise DisconnectionError  # which makes the pool replace it


def _postgresql(url: str) -> AsyncEngine:
    async def connect() -> Any:
        """Connect as libpq would: asyncpg understands the parameters of its URLs.

        The timeout is the caller's.
        """
        settings = {
            'application_name': 'asgilook',
            'statement_timeout': str(round(STATEMENT_TIMEOUT * 1000)),
        }
        return await asyncpg.connect(url, server_settings=settings)

    engine = _engine(URL.create('postgresql+asyncpg'), async_creator=connect)

    # PERF: `pool_pre_ping` would cost each statement a round trip.
    @event.listens_for(engine.sync_engine, 'checkout')
    def replace_closed(connection: Any, record: Any, proxy: object) -> None:
        """Let the pool replace a connection that is known to be closed."""
        if record.driver_connection.is_closed():
            raise DisconnectionError

    @event.listens_for(engine.sync_engine, 'close')
    def abort(connection: Any, record: Any) -> None:
        """Close without waiting for the server, which may be frozen."""
        record.driver_connection.terminate()

    return engine


def _sqlite(url: str) -> AsyncEngine:
    path = unquote(urlsplit(url).path)
    _create_file(path)
    target = URL.create('sqlite+aiosqlite', database=path)
    engine = _engine(target, connect_args={'timeout': STATEMENT_TIMEOUT})
    # If a call of `do_terminate` is cancelled, it leaves a task that never ends: it
    # waits for the thread of the connection, which has ended.
    engine.dialect.do_terminate = engine.dialect.do_close  # type: ignore[method-assign]

    @event.listens_for(engine.sync_engine, 'connect')
    def configure(connection: Any, record: object) -> None:
        """Flush each commit to the disk."""
        cursor = connection.cursor()
        cursor.execute('PRAGMA synchronous = FULL')
        cursor.close()

    return engine


def _create_file(path: str) -> None:
    """Create the file if it is missing, and allow reads during a write (WAL mode).

    The mode is kept in the file. Of several processes that set it at once, SQLite would
    reject some without waiting. Raises OSError if the file cannot be opened, and leaves
    other errors to the first connection.
    """
    with open(path, 'ab') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(sqlite3.Error):
            connection = sqlite3.connect(path, timeout=STATEMENT_TIMEOUT)
            with contextlib.closing(connection):
                connection.execute('PRAGMA journal_mode = WAL')


def _engine(url: URL, **options: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        isolation_level='AUTOCOMMIT',
        skip_autocommit_rollback=True,  # PERF: it would cost a round trip each
        pool_size=MAX_CONNECTIONS,
        max_overflow=0,
        **options,
    )
