"""The meaning of database errors.

They are distinguished by SQLSTATE (PostgreSQL's documentation, appendix A), or by
SQLite's name of the error.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

_DISCONNECTED = (
    '08',  # connection exceptions
    '57P01',  # shutting down
    '57P02',  # another connection has crashed
)

_UNAVAILABLE = (
    '53200',  # out of memory
    '57P03',  # starting up
    'SQLITE_BUSY',
    'SQLITE_LOCKED',
)

_TOO_MANY_CONNECTIONS = ('53300',)  # of the server, the database, or the role

_READ_ONLY = (
    '25006',  # by a setting, or as another server has become the primary
    'SQLITE_READONLY',
)

_STATEMENT_TIMEOUT = ('57014',)

_FULL = ('53100', 'SQLITE_FULL')


def is_disconnect(ex: Exception) -> bool:
    """Return whether the connection failed: the outcome of its statement is unknown."""
    if isinstance(ex, DBAPIError):
        return ex.connection_invalidated or _code(ex).startswith(_DISCONNECTED)
    return isinstance(ex, OSError)


def is_unavailable(ex: Exception) -> bool:
    """Return whether the database rejected a statement, as it would reject any other.

    Nothing was executed then.
    """
    return _code(ex).startswith(_UNAVAILABLE)


def is_connection_limit(ex: BaseException) -> bool:
    """Return whether the database rejected a connection, as there are too many."""
    return _code(ex).startswith(_TOO_MANY_CONNECTIONS)


def is_read_only(ex: BaseException | None) -> bool:
    """Return whether the database rejects changes, but not queries."""
    return _code(ex).startswith(_READ_ONLY)


def is_statement_timeout(ex: BaseException) -> bool:
    """Return whether the database canceled a statement that took too long."""
    return _code(ex).startswith(_STATEMENT_TIMEOUT)


def is_full(ex: Exception) -> bool:
    """Return whether the database has no space left."""
    return _code(ex).startswith(_FULL)


def describe(ex: BaseException) -> str:
    """Return one line about an error, without the statement."""
    original = getattr(ex, 'driver_exception', None) or ex
    return ' '.join(str(original).split()) or type(original).__name__


def _code(ex: BaseException | None) -> str:
    """Return the SQLSTATE of an error, or SQLite's name for it."""
    original = getattr(ex, 'orig', None)
    code = getattr(original, 'sqlstate', getattr(original, 'sqlite_errorname', None))
    return code or ''
