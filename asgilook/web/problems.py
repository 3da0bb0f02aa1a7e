"""Errors as problem details (RFC 9457): the status of each exception, and the JSON.

`problem_response` is the only place that builds such a response.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

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
from .record import record_of
from .urls import handle_not_found

log = logging.getLogger(__name__)

PROBLEM_JSON = 'application/problem+json'

# Both options of curl send the media type of a form; `-d` also removes line ends.
_CURL_HINT = ' With curl, send a file with --data-binary @FILE: -d @FILE changes it.'

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


class Problem(NamedTuple):
    """An error response for Falcon, ASGI or a bare connection.

    The header names are in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def asgi_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of a message `http.response.start`."""
        return [(name.encode(), value.encode()) for name, value in self.headers.items()]

    def send_as(self, resp: falcon.Response) -> None:
        """Replace the response, including anything that a responder has set."""
        resp.status = self.status
        resp.text = resp.stream = None
        resp.data = self.body
        resp.set_headers(self.headers)


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    **extensions: Any,
) -> Problem:
    """Build an error response; `extensions` are more members of its JSON object."""
    title = falcon.code_to_http_status(status).partition(' ')[2]
    members = {'type': 'about:blank', 'title': title, 'status': status}
    if detail:
        members['detail'] = detail
    body = json.dumps(members | extensions).encode()
    own_headers = {
        'content-type': PROBLEM_JSON,
        'content-length': str(len(body)),
        'cache-control': 'no-store',
    }
    return Problem(status, own_headers | dict(headers or {}), body)


async def handle_error(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    ex: Exception,
    params: dict[str, Any],
) -> None:
    """Raise the HTTP error for a domain exception."""
    status = next(STATUS[kind] for kind in type(ex).__mro__ if kind in STATUS)
    headers = {}
    if status == falcon.HTTP_503:
        headers['Retry-After'] = str(getattr(ex, 'retry_after', 1))
    detail = str(ex) or 'Out of memory.'
    if isinstance(ex, ImageDamaged | UnsupportedFormat) and _is_urlencoded(req):
        detail += _CURL_HINT
    raise falcon.HTTPError(status, description=detail, headers=headers)


def _is_urlencoded(req: falcon.asgi.Request) -> bool:
    media_type = (req.content_type or '').partition(';')[0].strip().lower()
    return media_type == falcon.MEDIA_URLENCODED


async def handle_unexpected(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    ex: Exception,
    params: dict[str, Any],
) -> None:
    """Log an unexpected exception with its traceback, and reveal nothing of it."""
    request_id = record_of(req).request_id
    log.error(
        'unhandled error in %s %s, id %s', req.method, req.path, request_id, exc_info=ex
    )
    raise falcon.HTTPInternalServerError(
        description='Unexpected error; the log of the service has the details.'
    )


def serialize_problem(
    req: falcon.Request, resp: falcon.Response, ex: falcon.HTTPError
) -> None:
    """Write an error as problem details, whatever `Accept` says (RFC 9457)."""
    detail = ex.description
    if isinstance(ex, falcon.HTTPMethodNotAllowed):
        detail = f'This URL allows {dict(ex.headers or {})["Allow"]}.'
    problem_response(ex.status_code, detail).send_as(resp)


def add_error_handlers(app: falcon.asgi.App[Any, Any]) -> None:
    """Answer every error of `app` with problem details."""
    app.set_error_serializer(serialize_problem)
    app.add_error_handler(falcon.HTTPRouteNotFound, handle_not_found)
    app.add_error_handler(AsgilookError, handle_error)
    app.add_error_handler(MemoryError, handle_error)
    app.add_error_handler(Exception, handle_unexpected)
