"""A database that may be gone: then every call fails at once, until it is back.

A connection that is lost or does not answer in time ends all the others too, and from
then on one task alone tries to get a new one: nothing else waits for a server that is
down or frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..backend_urls import redact
from ..config import ConfigError
from ..errors import DatabaseGone, OutcomeUnknown, StorageFull, StorageUnavailable
from . import schema
from .engine import PATIENCE, is_full, is_gone, is_lost, make_engine, reason

log = logging.getLogger(__name__)

T = TypeVar('T')
Work = Callable[[AsyncConnection], Awaitable[T]]

RETRY_SECONDS = 1.0
_LOG_SECONDS = 60.0
_ERRORS = (SQLAlchemyError, OSError)
_UNREACHABLE = "The database can't be reached now."


class Connector:
    """Runs statements on the connections to one database.

    Args:
        url: `postgresql://user:password@host/name`, or `sqlite:///absolute/path`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections: WeakSet[Any] = WeakSet()
        self._engine: AsyncEngine
        self._up = False
        self._returning: asyncio.Task[None] | None = None
        self._log_at = 0.0

    async def start(self) -> None:
        """Connect, on this event loop; a database that is down may come later.

        Raises `ConfigError` where it is there, but can't be used.
        """
        try:
            self._engine = make_engine(self._url, self._connections)
            await self._open()
        except (*_ERRORS, ValueError) as ex:
            raise ConfigError(
                reason(ex), 'ASGI_LOOK_DATABASE_URL', redact(self._url)
            ) from ex

    async def stop(self) -> None:
        """Close the connections."""
        self._up = False
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
            self._returning = None
        self._cut()
        await self._engine.dispose()

    async def run(self, work: Work[T]) -> T:
        """Let `work` ask the database, once or, if its connection is lost, twice.

        Raises `DatabaseGone` where it can't be reached, and nothing was done;
        `OutcomeUnknown` where its answer is missing; `StorageUnavailable` or
        `StorageFull` where it refuses.
        """
        if not self._up:
            raise DatabaseGone(_UNREACHABLE)
        try:
            return await self._call(work)
        except SQLAlchemyError as ex:
            if is_full(ex):
                raise StorageFull('No room is left for another image.') from ex
            self._complain(ex)
            raise StorageUnavailable('The database refuses to work now.') from ex

    async def _open(self) -> None:
        self._up = True
        try:
            with contextlib.suppress(DatabaseGone):
                await self._call(schema.prepare)
        except BaseException:
            await self.stop()
            raise

    async def _call(self, work: Work[T]) -> T:
        lost: list[Exception] = []
        loop = asyncio.get_running_loop()
        clock = loop.call_later(PATIENCE, self._lose, f'no answer in {PATIENCE:g} s')
        try:
            try:
                return await self._attempt(work, lost)
            except _ERRORS:
                if not (lost and self._up):
                    raise
            return await self._attempt(work, lost)
        except _ERRORS as ex:
            if not (lost or is_gone(ex)):
                raise
            self._lose(reason(ex))
            raise (OutcomeUnknown if lost else DatabaseGone)(_UNREACHABLE) from ex
        finally:
            clock.cancel()

    async def _attempt(self, work: Work[T], lost: list[Exception]) -> T:
        """Run `work`; where that is cut off, say so in `lost`."""
        async with self._engine.connect() as connection:
            try:
                return await work(connection)
            except _ERRORS as ex:
                if is_lost(ex):
                    lost.append(ex)
                raise

    def _lose(self, why: str) -> None:
        """Cut all connections, and let one task try to make new ones."""
        self._cut()
        if self._up:
            self._up = False
            log.warning(
                'no database at %s (%s): only images that were seen lately are served',
                redact(self._url),
                why,
            )
            self._returning = asyncio.create_task(self._return())

    def _cut(self) -> None:
        """End the connections without a goodbye, which a frozen server never hears."""
        for connection in list(self._connections):
            connection.terminate()

    async def _return(self) -> None:
        while not self._up:
            try:
                await self._call(schema.prepare)
                self._up = True
            except (DatabaseGone, SQLAlchemyError, ValueError) as ex:
                if not isinstance(ex, DatabaseGone):
                    self._complain(ex)
                await asyncio.sleep(RETRY_SECONDS)
        log.warning('the database is back')

    def _complain(self, ex: Exception) -> None:
        """Log what a database that lives refuses to do, once a minute."""
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + _LOG_SECONDS
            log.warning('the database refuses: %s', reason(ex))
