"""The way of a hit: what Falcon has answered once is answered again without Falcon.

A plain GET of an immutable URL has one head for all clients. So after the first hit
that head is kept, and needs only the proof that the image is still the same one, and
the body from a cache. That is a third of the work of a request, or less.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import StorageUnavailable
from ..models import Image
from .asgi_types import Headers, Scope, Send
from .conditional import Representation
from .urls import is_canonical

Found = tuple[bytes | None, str | None]

# URLs that are remembered; about two kilobytes each.
_MOST = 16384

# With one of these in a request, Falcon has to answer.
_SPECIAL = frozenset(
    {
        b'if-match',
        b'if-modified-since',
        b'if-range',
        b'if-unmodified-since',
        b'origin',
        b'range',
        b'x-request-id',
    }
)


class Known:
    """An immutable URL: what it stands for, and the heads of its answers."""

    __slots__ = ('etag', 'heads', 'not_modified', 'representation', 'route')

    def __init__(self, representation: Representation, route: str) -> None:
        self.representation = representation
        self.route = route
        self.etag = f'"{representation.etag}"'.encode()
        self.heads: dict[str, Headers] = {}
        self.not_modified = [
            (name.encode(), value.encode()) for name, value in representation.headers
        ]


class Shortcut:
    """Answers plain hits, and 304s, of the URLs that it has learned.

    Args:
        find: takes the body of a representation from a cache, and tells which.
        is_current: tells whether an image is still the one that is stored.
    """

    def __init__(
        self,
        *,
        find: Callable[[Representation], Awaitable[Found]],
        is_current: Callable[[Image], Awaitable[bool]],
    ) -> None:
        self._find = find
        self._is_current = is_current
        self._known: dict[str, Known] = {}

    def learn(self, scope: Scope, status: int, head: Headers) -> None:
        """Keep the head of a hit that Falcon has answered."""
        representation = scope.get('hit')
        if representation is None or representation.image is None:
            return
        if status != 200 or not _is_plain(scope):
            return
        known = self._known.get(scope['path'])
        if known is None or known.representation != representation:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[scope['path']] = Known(representation, scope['route'])
        known.heads[scope['cache']] = head

    async def answer(self, scope: Scope, send: Send) -> bool:
        """Answer a request; False where Falcon has to."""
        known = self._known.get(scope['path'])
        if known is None or not _is_plain(scope):
            return False
        image = known.representation.image
        try:
            current = image is not None and await self._is_current(image)
        except StorageUnavailable:
            return False
        if not current:
            self._known.pop(scope['path'], None)
            return False
        etag = scope['fields'].get(b'if-none-match')
        if etag is None:
            return await self._answer_body(scope, send, known)
        if etag != known.etag:
            return False
        scope['route'] = known.route
        await _send(send, 304, known.not_modified, b'')
        return True

    async def _answer_body(self, scope: Scope, send: Send, known: Known) -> bool:
        body, tier = scope['found'] = await self._find(known.representation)
        if body is None or tier not in known.heads:
            return False
        scope['route'], scope['cache'] = known.route, tier
        await _send(send, 200, known.heads[tier], body)
        return True


def _is_plain(scope: Scope) -> bool:
    return (
        scope['method'] == 'GET'
        and not scope['query_string']
        and is_canonical(scope)
        and _SPECIAL.isdisjoint(scope['fields'])
    )


async def _send(send: Send, status: int, head: Headers, body: bytes) -> None:
    await send({'type': 'http.response.start', 'status': status, 'headers': head})
    await send({'type': 'http.response.body', 'body': body})
