"""Conditional and partial requests (RFC 9110 sections 13 and 14), answered once.

A resource that can say what it would answer before it does any work has a method
`identify(req, **params)`, which returns a `Representation` or raises. From it come
the 304, the 206 and all headers but those of the body: so a response that comes from
a cache has the same headers as one that was made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from functools import partial
from typing import Any

import falcon
import falcon.asgi

from ..models import Image

_RANGE = re.compile(r'bytes=([0-9]{0,18})-([0-9]{0,18})', re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Representation:
    """What a GET would answer, known before any work.

    `key` names it in a cache (None: not to be cached); `etag` is strong, without its
    quotes; every answer has the `headers`, 304 as well. `image` is the stored image
    that it shows, and None for what changes with the set of images; `modified` is
    its Last-Modified, in whole seconds.
    """

    key: str | None
    etag: str
    content_type: str
    headers: tuple[tuple[str, str], ...]
    image: Image | None = None
    modified: datetime.datetime | None = None


class Conditional:
    """Falcon middleware: preconditions before the work, ranges and headers after."""

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Begin with nothing known."""
        resp.context.representation = None

    async def process_resource(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        params: dict[str, Any],
    ) -> None:
        """Ask the resource what it would answer; answer 304 or 412 for it."""
        identify = getattr(resource, 'identify', None)
        if identify is None or req.method not in ('GET', 'HEAD'):
            return
        resp.context.identify = partial(identify, req, **params)
        resp.context.representation = await resp.context.identify()
        _evaluate(req, resp, resp.context.representation)

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        """Cut a whole body to the range asked for, and add the headers."""
        representation = resp.context.get('representation')
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


def _evaluate(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    representation: Representation,
) -> None:
    """Answer 304 or 412 where the preconditions say so (RFC 9110 section 13.2.2)."""
    if not _precondition_holds(req, representation):
        raise falcon.HTTPPreconditionFailed
    if _is_not_modified(req, representation):
        resp.status = falcon.HTTP_304
        resp.complete = True


def select_range(
    req: falcon.asgi.Request, representation: Representation, length: int
) -> range | None:
    """Return the bytes that the request asks for, of a body of `length`.

    None means all of them: no range, several, another unit, a malformed one, or an
    `If-Range` that names another state. Raises falcon.HTTPRangeNotSatisfiable.
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


def _precondition_holds(
    req: falcon.asgi.Request, representation: Representation
) -> bool:
    """If-Match, or else If-Unmodified-Since (RFC 9110 section 13.2.2)."""
    if req.get_header('If-Match'):
        return _names(req.if_match, representation, strong=True)
    since, modified = _date(req, 'If-Unmodified-Since'), representation.modified
    return since is None or modified is None or modified <= since


def _is_not_modified(req: falcon.asgi.Request, representation: Representation) -> bool:
    """If-None-Match, or else If-Modified-Since (RFC 9110 section 13.2.2)."""
    if req.get_header('If-None-Match'):
        return _names(req.if_none_match, representation, strong=False)
    since, modified = _date(req, 'If-Modified-Since'), representation.modified
    return since is not None and modified is not None and modified <= since


def _if_range_holds(req: falcon.asgi.Request, representation: Representation) -> bool:
    """Compare strongly, a date exactly (RFC 9110 section 13.1.5)."""
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
    """Parse a date; a malformed one counts as none (RFC 9110 section 13.1.3)."""
    value = req.get_header(name)
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return falcon.http_date_to_dt(value, obs_date=True)
    return None
