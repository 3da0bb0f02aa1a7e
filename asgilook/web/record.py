"""The record of a request: what the layers of the service share about it."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, cast, runtime_checkable

import falcon.asgi

from ..models import Image
from .asgi_types import Headers, Scope

# The only key that the service writes to a scope.
SCOPE_KEY = 'asgilook.record'

# The only key that it writes to the state of a server's lifespan: a function that logs
# and counts a request which the server has rejected before the service saw it.
REJECTION_KEY = 'asgilook.report_rejection'

CacheResult = Literal['memory', 'redis', 'miss']

_VALID_ID = re.compile(rb'[A-Za-z0-9._:/+=-]{1,128}')

_process = secrets.token_hex(4).encode()
_numbers = itertools.count(1)


async def _always() -> bool:
    return True


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Representation:
    """The representation that a GET would return, known before any work.

    Attributes:
        key: names it in a cache; None if it is not to be cached.
        etag: strong entity tag, without quotes.
        content_type: media type of the body.
        headers: further headers of every response, including 304.
        is_current: returns whether a GET would still return this.
        image: the stored image that it shows; None for a list or a static file.
        modified: Last-Modified, in whole seconds.
        images: the stored images that it lists.
    """

    key: str | None
    etag: str
    content_type: str
    headers: tuple[tuple[str, str], ...]
    is_current: Callable[[], Awaitable[bool]] = _always
    image: Image | None = None
    modified: datetime.datetime | None = None
    images: Sequence[Image] = ()


@runtime_checkable
class Identifiable(Protocol):
    """A resource that can identify its representation before it does any work."""

    async def identify(
        self, req: falcon.asgi.Request, *args: Any, **kwargs: Any
    ) -> Representation:
        """Return the representation; the arguments are those of the responder.

        Raises what the GET would raise, such as `ImageNotFound`.
        """
        ...


class Record:
    """One request, from the ASGI entry point to its log line.

    Attributes:
        started: time of `time.perf_counter` when the request came in.
        method: HTTP method.
        target: canonical path, with the query if there is one; None for another
            spelling of a path.
        headers: request headers by their names in lower case.
        returns_id: whether the client has sent a valid `X-Request-ID`.
        route: URL template of the resource; None if there is none.
        representation: what the resource has identified.
        cache: the tier that had the response, or a miss; None if it is not cacheable.
        status: status of the response, 500 until there is one.
        response_headers: headers of the response, None until there are any.
        sent: bytes of the body that have been sent.
        seconds: duration, known at the end.
    """

    __slots__ = (
        '_request_id',
        'cache',
        'headers',
        'method',
        'representation',
        'response_headers',
        'returns_id',
        'route',
        'seconds',
        'sent',
        'started',
        'status',
        'target',
    )

    def __init__(self, scope: Scope) -> None:
        self.started = time.perf_counter()
        self.method: str = scope['method']
        self.target = _target(scope)
        self.headers = headers = _by_name(scope['headers'])
        given = headers.get(b'x-request-id')
        self.returns_id = given is not None and _VALID_ID.fullmatch(given) is not None
        self._request_id = given if self.returns_id else None
        self.route: str | None = None
        self.representation: Representation | None = None
        self.cache: CacheResult | None = None
        self.status = 500
        self.response_headers: Iterable[tuple[bytes, bytes]] | None = None
        self.sent = 0
        self.seconds = 0.0

    @property
    def request_id(self) -> bytes:
        """The client's `X-Request-ID` if it is valid, else a new one."""
        if self._request_id is None:
            self._request_id = b'%s-%x' % (_process, next(_numbers))
        return self._request_id

    @property
    def has_started(self) -> bool:
        """Whether the head of the response has been sent."""
        return self.response_headers is not None


def record_of(req: falcon.asgi.Request) -> Record:
    """Return the record of a request."""
    return cast(Record, req.scope[SCOPE_KEY])


def representation_of(req: falcon.asgi.Request) -> Representation:
    """Return what an `Identifiable` resource has identified for a request."""
    return cast(Representation, record_of(req).representation)


def image_of(req: falcon.asgi.Request) -> Image:
    """Return the stored image that the representation of a request shows."""
    return cast(Image, representation_of(req).image)


def _target(scope: Scope) -> str | None:
    path: str = scope['path']
    if path.startswith('//') or b'%' in (scope.get('raw_path') or b''):
        return None
    query: bytes = scope['query_string']
    return f'{path}?{query.decode("latin-1")}' if query else path


def _by_name(headers: Headers) -> dict[bytes, bytes]:
    """Return the headers as a mapping, repeated ones joined as Falcon joins them."""
    found = dict(headers)
    if len(found) < len(headers):
        found.clear()
        for name, value in headers:
            found[name] = found[name] + b',' + value if name in found else value
    return found
