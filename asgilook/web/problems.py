"""Errors as problem details (RFC 9457): the status of each exception, and the JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

import falcon
import falcon.asgi

from ..errors import (
    AsgilookError,
    BodyTimeout,
    ImageDamaged,
    ImageNotFound,
    InvalidRequest,
    StorageFull,
    StoredImageDamaged,
    Unavailable,
    UnsupportedFormat,
    UploadTooLarge,
)

log = logging.getLogger(__name__)

PROBLEM_JSON = 'application/problem+json'

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
