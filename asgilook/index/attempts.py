"""Database operations, repeated if that is safe and can help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import DatabaseUnavailable, OutcomeUnknown
from . import engine
from .engine import Connections
from .sqlstate import is_disconnect, is_read_only, is_unavailable

T = TypeVar('T')

# Called with a connection and the number of the attempt: 1, or 2 if the connection was
# lost in the first, whose statements may have been executed.
Work = Callable[[AsyncConnection, int], Awaitable[T]]

UNAVAILABLE = 'The database is unavailable.'


class Rejected(OutcomeUnknown):
    """The first attempt was lost, and the database rejected the second."""


async def run(connections: Connections, work: Work[T]) -> T:
    """Run `work` on a connection, and once again on another if that is lost.

    Raises `DatabaseUnavailable` if nothing was executed, `OutcomeUnknown` if something
    may have been, and SQLAlchemyError if the database rejects a statement.
    """
    try:
        return await _run(connections, work, 1)
    except OutcomeUnknown as ex:
        if isinstance(ex.__cause__, TimeoutError):
            raise
    try:
        return await _run(connections, work, 2)
    except DatabaseUnavailable as ex:
        raise OutcomeUnknown(UNAVAILABLE) from ex
    except SQLAlchemyError as ex:
        raise Rejected('The database did not confirm the request.') from ex


async def _run(connections: Connections, work: Work[T], attempt: int) -> T:
    """Run `work`; if the database is read-only, run it again on a new connection.

    After a failover, that may be one to the new primary.
    """
    try:
        return await _run_once(connections, work, attempt)
    except DBAPIError as ex:
        if not is_read_only(ex):
            raise
    connections.replace()
    return await _run_once(connections, work, attempt)


async def _run_once(connections: Connections, work: Work[T], attempt: int) -> T:
    failure = DatabaseUnavailable
    try:
        async with connections.connect() as connection:
            failure = OutcomeUnknown  # from here on, statements may be executed
            async with asyncio.timeout(engine.TIMEOUT):
                return await work(connection, attempt)
    except TimeoutError:
        reason = TimeoutError(f'no response in {engine.TIMEOUT:g} s')
        raise failure(UNAVAILABLE) from reason
    except (SQLAlchemyError, OSError) as ex:
        if is_disconnect(ex):
            raise failure(UNAVAILABLE) from ex
        if is_unavailable(ex):
            raise DatabaseUnavailable(UNAVAILABLE) from ex
        raise
