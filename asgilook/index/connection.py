"""Access to a database, which may be unavailable or read-only.

If it can't be reached, or doesn't respond in time, all further calls fail at once while
a single task reconnects: no request waits for a server that is stopped or frozen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..backend_urls import redact
from ..concurrency import CircuitBreaker
from ..config import ConfigError
from ..errors import DatabaseUnavailable, StorageFull, StorageUnavailable
from . import attempts, schema
from .attempts import UNAVAILABLE, Work
from .engine import Connections
from .sqlstate import describe, is_full, is_read_only, is_statement_timeout

log = logging.getLogger(__name__)

T = TypeVar('T')

# Pause between two attempts to reconnect, or to change a read-only database; seconds.
RETRY_INTERVAL = 1.0

# Minimum time between two log lines about failed calls, in seconds.
LOG_INTERVAL = 60.0

_READ_ONLY = 'The database is read-only.'


class Connector:
    """Runs statements on the pooled connections to one database.

    Args:
        url: `postgresql://user:password@host/name`, or `sqlite:///absolute/path`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections: Connections
        self._breaker: CircuitBreaker
        self._writes: CircuitBreaker
        self._reconnecting: asyncio.Task[None] | None = None
        self._running = False
        self._log_at = 0.0

    async def start(self) -> None:
        """Connect on this event loop, later if the database is unavailable.

        Raises `ConfigError` if the database is available, but can't be used.
        """
        # No request makes a trial call: the task that reconnects paces its own.
        self._breaker = CircuitBreaker(retry_seconds=0)
        self._writes = CircuitBreaker(RETRY_INTERVAL)
        try:
            self._connections = Connections(self._url)
            await self._open()
        except (SQLAlchemyError, OSError, ValueError) as ex:
            raise ConfigError(
                describe(ex), 'ASGI_LOOK_DATABASE_URL', redact(self._url)
            ) from ex
        self._running = True

    async def stop(self) -> None:
        """Close the connections, if that has not been done."""
        if not self._running:
            return
        self._running = False
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait([self._reconnecting])
            self._reconnecting = None
        await self._connections.close()

    async def read(self, work: Work[T]) -> T:
        """Run `work`, and once again if its connection is lost.

        Raises `DatabaseUnavailable` if nothing was executed, `OutcomeUnknown` if
        something may have been, and `StorageUnavailable` or `StorageFull` if the
        database rejects a statement.
        """
        token = self._breaker.enter()
        if token is None or self._breaker.failing or not self._running:
            raise DatabaseUnavailable(UNAVAILABLE)
        try:
            return await attempts.run(self._connections, work)
        except attempts.Rejected as ex:
            self._log_failure(ex.__cause__ or ex)
            raise
        except DatabaseUnavailable as ex:
            self._open_circuit(token, ex)
            raise
        except SQLAlchemyError as ex:
            raise self._translate(ex) from ex

    async def write(self, work: Work[T]) -> T:
        """Run `work` that changes data, as `read` does.

        While the database is read-only, this raises `StorageUnavailable` at once,
        except for one trial per interval.
        """
        token = self._writes.enter()
        if token is None:
            raise StorageUnavailable(_READ_ONLY)
        try:
            result = await self.read(work)
        except StorageUnavailable as ex:
            if is_read_only(ex.__cause__):
                self._writes.fail(token)
            raise
        if self._writes.succeed(token):
            log.warning('the database accepts changes again')
        return result

    async def _open(self) -> None:
        token = self._breaker.enter()
        try:
            await attempts.run(self._connections, _prepare)
        except DatabaseUnavailable as ex:
            self._open_circuit(token, ex)
        except BaseException:
            await self._connections.close()
            raise

    def _open_circuit(self, token: int | None, ex: DatabaseUnavailable) -> None:
        """Reject all calls, and start the task that reconnects."""
        if token is not None and self._breaker.fail(token):
            self._connections.lose()
            log.warning(
                'the database at %s is unavailable (%s): '
                'only images that were requested recently are served',
                redact(self._url),
                describe(ex.__cause__ or ex),
            )
            self._reconnecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while self._breaker.failing:
            token = self._breaker.enter()
            if token is not None and await self._is_available():
                self._breaker.succeed(token)
                log.warning('the database is available again')
            else:
                await asyncio.sleep(RETRY_INTERVAL)

    async def _is_available(self) -> bool:
        try:
            await attempts.run(self._connections, _prepare)
        except DatabaseUnavailable:
            return False
        except Exception as ex:  # NOTE(recovery): nothing may end the task
            self._log_failure(ex)
            return False
        return True

    def _translate(self, ex: SQLAlchemyError) -> StorageFull | StorageUnavailable:
        """Return what to raise for an error of an available database."""
        if is_full(ex):
            return StorageFull('The database has no space left.')
        self._log_failure(ex)
        if is_read_only(ex):
            return StorageUnavailable(_READ_ONLY)
        return StorageUnavailable('The database request failed.')

    def _log_failure(self, ex: BaseException) -> None:
        """Log a failure of an available database, once a minute."""
        if time.monotonic() < self._log_at:
            return
        self._log_at = time.monotonic() + LOG_INTERVAL
        if is_read_only(ex):
            log.warning(
                'the database is read-only, so uploads and deletions fail: %s',
                describe(ex),
            )
        else:
            log.warning('a database request failed: %s', describe(ex))


async def _prepare(connection: AsyncConnection, attempt: int) -> None:
    """Create missing tables; a database where that must wait is unavailable."""
    try:
        await schema.prepare(connection)
    except DBAPIError as ex:
        if is_read_only(ex) or is_statement_timeout(ex):
            raise DatabaseUnavailable(UNAVAILABLE) from ex
        raise
