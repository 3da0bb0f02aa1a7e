"""Statements on a database that may be unavailable.

A connection that is lost is replaced, and its work repeated once. If that fails, or if
the database doesn't answer in time, all further calls fail at once while a single task
reconnects: no request waits for a server that is stopped or frozen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..backend_urls import redact
from ..concurrency import CircuitBreaker
from ..config import ConfigError
from ..errors import DatabaseGone, OutcomeUnknown, StorageFull, StorageUnavailable
from . import engine, schema
from .sqlstate import describe, is_disconnect, is_full, is_unavailable

log = logging.getLogger(__name__)

T = TypeVar('T')

# Called with a connection and the number of the attempt: 1, or 2 if the connection was
# lost in the first, whose statement may have been executed.
Work = Callable[[AsyncConnection, int], Awaitable[T]]

# Pause between two attempts to reconnect.
RETRY_SECONDS = 1.0

_LOG_SECONDS = 60.0
_ERRORS = (SQLAlchemyError, OSError)
_UNAVAILABLE = "The database can't be reached now."


class Connector:
    """Runs statements on the pooled connections to one database.

    Args:
        url: `postgresql://user:password@host/name`, or `sqlite:///absolute/path`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections: engine.Connections
        self._breaker: CircuitBreaker
        self._reconnecting: asyncio.Task[None] | None = None
        self._running = False
        self._log_at = 0.0

    async def start(self) -> None:
        """Connect, on this event loop; an unavailable database is awaited later.

        Raises `ConfigError` if the database is available, but can't be used.
        """
        # No request makes a trial call: the task that reconnects paces its own.
        self._breaker = CircuitBreaker(retry_seconds=0)
        try:
            self._connections = engine.Connections(self._url)
            await self._open()
        except (*_ERRORS, ValueError) as ex:
            raise ConfigError(
                describe(ex), 'ASGI_LOOK_DATABASE_URL', redact(self._url)
            ) from ex
        self._running = True

    async def stop(self) -> None:
        """Close the connections."""
        self._running = False
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait([self._reconnecting])
            self._reconnecting = None
        await self._connections.close()

    async def run(self, work: Work[T]) -> T:
        """Run `work`, and once again if its connection is lost.

        Raises `DatabaseGone` if the database is unavailable and nothing was executed,
        `OutcomeUnknown` if something may have been, and `StorageUnavailable` or
        `StorageFull` if the database rejects the statement.
        """
        token = self._breaker.enter()
        if token is None or self._breaker.failing or not self._running:
            raise DatabaseGone(_UNAVAILABLE)
        try:
            return await self._call(work)
        except DatabaseGone as ex:
            self._open_circuit(token, ex)
            raise
        except SQLAlchemyError as ex:
            if is_full(ex):
                raise StorageFull('The database has no space left.') from ex
            self._log_failure(ex)
            raise StorageUnavailable('The database failed to do this.') from ex

    async def _open(self) -> None:
        token = self._breaker.enter()
        try:
            await self._call(_prepare)
        except DatabaseGone as ex:
            self._open_circuit(token, ex)
        except BaseException:
            await self._connections.close()
            raise

    async def _call(self, work: Work[T]) -> T:
        """Run `work` on a connection, and once again on another if that is lost."""
        try:
            return await self._attempt(work, 1)
        except OutcomeUnknown as ex:
            if isinstance(ex.__cause__, TimeoutError) or self._breaker.failing:
                raise
        try:
            return await self._attempt(work, 2)
        except (DatabaseGone, SQLAlchemyError) as ex:
            raise OutcomeUnknown(_UNAVAILABLE) from ex

    async def _attempt(self, work: Work[T], attempt: int) -> T:
        failure = DatabaseGone
        try:
            async with self._connections.connect() as connection:
                failure = OutcomeUnknown  # from here on, statements may be executed
                async with asyncio.timeout(engine.TIMEOUT):
                    return await work(connection, attempt)
        except TimeoutError:
            reason = TimeoutError(f'no answer in {engine.TIMEOUT:g} s')
            raise failure(_UNAVAILABLE) from reason
        except _ERRORS as ex:
            if is_disconnect(ex):
                raise failure(_UNAVAILABLE) from ex
            if is_unavailable(ex):
                raise DatabaseGone(_UNAVAILABLE) from ex
            raise

    def _open_circuit(self, token: int | None, ex: DatabaseGone) -> None:
        """Reject all calls, and start the task that reconnects."""
        if token is not None and self._breaker.fail(token):
            self._connections.replace()
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
                await asyncio.sleep(RETRY_SECONDS)

    async def _is_available(self) -> bool:
        try:
            await self._call(_prepare)
        except DatabaseGone:
            return False
        except Exception as ex:  # NOTE(recovery): nothing may end the task
            self._log_failure(ex)
            return False
        return True

    def _log_failure(self, ex: Exception) -> None:
        """Log why an available database failed a call, once a minute."""
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + _LOG_SECONDS
            log.warning('a call of the database failed: %s', describe(ex))


async def _prepare(connection: AsyncConnection, attempt: int) -> None:
    await schema.prepare(connection)
