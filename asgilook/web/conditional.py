"""Conditional, partial and negotiated requests (RFC 9110 sections 12 to 14).

An `Identifiable` resource returns its representation before it does any work. The
statuses 304, 206, 412 and 416 and all headers except those of the cache follow from
that representation, so that a cached response has the same headers as a rendered one.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Awaitable, Callable
from functools import cache, lru_cache
from typing import Any, TypeVar

import falcon
import falcon.asgi
from falcon import mediatypes

from ..errors import AsgilookError, Unavailable
from ..models import Image
from .record import Identifiable, Representation, image_of, record_of, representation_of

T = TypeVar('T')

# Attempts to read a stored image that is replaced each time, before a 503.
MAX_ATTEMPTS = 10

_RANGE = re.compile(r'bytes=([0-9]{0,18})-([0-9]{0,18})', re.IGNORECASE)


class Conditional:
    """Falcon middleware: preconditions before the work, ranges and headers after."""

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        params: dict[str, Any],
    ) -> None:
        """Identify the representation of the resource; send 304 or 412 if possible."""
        if req.method in ('GET', 'HEAD') and _is_identifiable(resource.__class__):
            representation = await resource.identify(req, **params)
            record_of(req).representation = representation
            require_preconditions(req, representation)
            if _is_not_modified(req, representation):
                resp.status = falcon.HTTP_304
                resp.complete = True

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        """Cut a whole body to the requested range, and add the headers."""
        representation = record_of(req).representation
        if representation is None or not req_succeeded:
            return
        if resp.data is not None and resp.status == falcon.HTTP_200:
            selected = select_range(req, representation, len(resp.data))
            if selected is not None:
                set_partial(resp, selected, len(resp.data))
                resp.data = resp.data[selected.start : selected.stop]
        resp.set_headers(representation.headers)
        if resp.status != falcon.HTTP_304:
            resp.content_type = representation.content_type


@lru_cache(maxsize=1024)
def preferred_type(media_types: tuple[str, ...], accept: str) -> str:
    """Return the media type that `Accept` prefers; the first one if it has none."""
    with contextlib.suppress(ValueError):
        return mediatypes.best_match(media_types, accept or '*/*') or media_types[0]
    return media_types[0]


@cache
def _is_identifiable(kind: type[object]) -> bool:
    return issubclass(kind, Identifiable)


async def read_consistently(
    req: falcon.asgi.Request,
    *,
    read: Callable[[Image], Awaitable[T]],
    identify: Callable[[], Awaitable[Representation]],
) -> T:
    """Return the result of `read` for the stored image of the request.

    A file may be replaced under its id between `identify` and the end of `read`. Then
    the request gets another representation, and the result is discarded.
    """
    record = record_of(req)
    for _ in range(MAX_ATTEMPTS):
        failure: AsgilookError | None = None
        try:
            result = await read(image_of(req))
        except AsgilookError as ex:
            failure = ex
        if await representation_of(req).is_current():
            if failure is not None:
                raise failure
            return result
        record.representation = await identify()
        require_preconditions(req, record.representation)
    raise Unavailable('The image is being replaced; try again later.')


def select_range(
    req: falcon.asgi.Request, representation: Representation, length: int
) -> range | None:
    """Return the requested range of a body of `length` bytes.

    None means the whole body: there is no range, or several, the range is malformed or
    in another unit, or `If-Range` does not match. Raises
    falcon.HTTPRangeNotSatisfiable.
    """
    value = req.get_header('Range')
    match = _RANGE.fullmatch(value) if value else None
    if match is None or req.method != 'GET' or representation.image is None:
        return None
    first, last = match.groups()
    if not (first or last) or (first and last and int(last) < int(first)):
        return None
    if not _if_range_holds(req, representation):
        return None
    if first:
        selected = range(int(first), min(int(last or length), length - 1) + 1)
    else:
        selected = range(max(length - int(last), 0), length)
    if not selected:
        raise falcon.HTTPRangeNotSatisfiable(length)
    return selected


def set_partial(resp: falcon.asgi.Response, selected: range, length: int) -> None:
    """Make the response a 206 for these bytes of a body of `length`."""
    resp.status = falcon.HTTP_206
    resp.content_range = (selected.start, selected.stop - 1, length)


def require_preconditions(
    req: falcon.asgi.Request, representation: Representation
) -> None:
    """Check If-Match, or else If-Unmodified-Since (RFC 9110 section 13.2.2).

    Raises falcon.HTTPPreconditionFailed.
    """
    if req.get_header('If-Match'):
        holds = _names(req.if_match, representation, strong=True)
    else:
        since, modified = _date(req, 'If-Unmodified-Since'), representation.modified
        holds = since is None or modified is None or modified <= since
    if not holds:
        raise falcon.HTTPPreconditionFailed


def _is_not_modified(req: falcon.asgi.Request, representation: Representation) -> bool:
    """Evaluate If-None-Match, or else If-Modified-Since (RFC 9110 section 13.2.2)."""
    if req.get_header('If-None-Match'):
        return _names(req.if_none_match, representation, strong=False)
    since, modified = _date(req, 'If-Modified-Since'), representation.modified
    return since is not None and modified is not None and modified <= since


def _if_range_holds(req: falcon.asgi.Request, representation: Representation) -> bool:
    """Compare an entity tag strongly, a date exactly (RFC 9110 section 13.1.5)."""
    value = req.get_header('If-Range')
    if value is None or value == f'"{representation.etag}"':
        return True
    return _date(req, 'If-Range') == representation.modified


def _names(etags: Any, representation: Representation, *, strong: bool) -> bool:
    return any(
        etag == '*' or (etag == representation.etag and not (strong and etag.is_weak))
        for etag in etags or ()
    )


def _date(req: falcon.asgi.Request, name: str) -> datetime.datetime | None:
    """Parse a date; None for a malformed one (RFC 9110 section 13.1.3)."""
    value = req.get_header(name)
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return falcon.http_date_to_dt(value, obs_date=True)
    return None
