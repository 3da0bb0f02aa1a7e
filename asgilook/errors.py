"""What can go wrong, by name, and the one table that says what HTTP calls it.

The message of these exceptions is shown to the client: it says what is wrong with
the request, never where the service keeps its files.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import falcon
import falcon.asgi

log = logging.getLogger(__name__)

PROBLEM_JSON = 'application/problem+json'


class AsgilookError(Exception):
    """Base of everything that the service raises on purpose."""


class ImageNotFound(AsgilookError):
    """No such image, or no such size of it."""


class InvalidRequest(AsgilookError):
    """A wrong parameter, an empty or an incomplete body."""


class BodyTimeout(AsgilookError):
    """The client stopped sending its body."""


class UploadTooLarge(AsgilookError):
    """More bytes or more pixels than the settings allow."""


class UnsupportedFormat(AsgilookError):
    """Not an image of an accepted format."""


class ImageDamaged(AsgilookError):
    """An accepted format, but it can't be decoded, or can't be stored as JPEG."""


class StorageFull(AsgilookError):
    """No room left for another image."""


class StoredImageDamaged(AsgilookError):
    """A stored file was damaged from outside: the service's fault, not the client's."""


class Unavailable(AsgilookError):
    """Not now; `retry_after` says in how many seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Unavailable):
    """More work is waiting than `queue_size`."""


class StorageUnavailable(Unavailable):
    """The storage or the index is missing, read-only, broken or out of reach."""


class DatabaseGone(StorageUnavailable):
    """The database can't be reached: not down to what it was asked."""


class OutcomeUnknown(DatabaseGone):
    """The database was lost while it wrote: that may be done, or be done yet."""


class ImageExists(StorageUnavailable):
    """There is another image of this id, which is not replaced."""


class DeadlineExceeded(Unavailable):
    """A job took longer than `render_timeout`."""


STATUS: dict[type[Exception], str] = {
    InvalidRequest: falcon.HTTP_400,
    ImageNotFound: falcon.HTTP_404,
    BodyTimeout: falcon.HTTP_408,
    UploadTooLarge: falcon.HTTP_413,
    UnsupportedFormat: falcon.HTTP_415,
    ImageDamaged: falcon.HTTP_422,
    StoredImageDamaged: falcon.HTTP_500,
    Unavailable: falcon.HTTP_503,
    MemoryError: falcon.HTTP_503,
    StorageFull: falcon.HTTP_507,
}


async def handle_error(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    ex: Exception,
    params: dict[str, Any],
) -> None:
    """Turn an exception of the table into the HTTP error that it stands for."""
    status = next(STATUS[kind] for kind in type(ex).__mro__ if kind in STATUS)
    headers = {}
    if status == falcon.HTTP_503:
        headers['Retry-After'] = str(getattr(ex, 'retry_after', 1))
    raise falcon.HTTPError(
        status, description=str(ex) or 'Out of memory.', headers=headers
    )


async def handle_unexpected(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    ex: Exception,
    params: dict[str, Any],
) -> None:
    """Log what nobody foresaw with its traceback, and show nothing of it."""
    request_id = req.scope.get('request_id')
    log.error(
        'unhandled error in %s %s, id %s', req.method, req.path, request_id, exc_info=ex
    )
    raise falcon.HTTPInternalServerError(
        description='The service failed; the fault is in its log.'
    )


def serialize_problem(
    req: falcon.Request, resp: falcon.Response, ex: falcon.HTTPError
) -> None:
    """Write an error as problem details, whatever `Accept` says (RFC 9457)."""
    resp.text = resp.stream = None
    resp.data = problem(ex.status_code, ex.description)
    resp.content_type = PROBLEM_JSON
    resp.cache_control = ['no-store']


def problem(status: int, detail: str | None) -> bytes:
    """Make the body of an error."""
    title = falcon.code_to_http_status(status).partition(' ')[2]
    fields = {'type': 'about:blank', 'title': title, 'status': status}
    if detail:
        fields['detail'] = detail
    return json.dumps(fields).encode()


def add_error_handlers(app: falcon.asgi.App[Any, Any]) -> None:
    """Make every error of `app` a problem of one shape."""
    app.set_error_serializer(serialize_problem)
    app.add_error_handler(AsgilookError, handle_error)
    app.add_error_handler(MemoryError, handle_error)
    app.add_error_handler(Exception, handle_unexpected)
