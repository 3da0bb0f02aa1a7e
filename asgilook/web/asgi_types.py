"""Types of the ASGI specification, as far as the package uses them."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

Scope = dict[str, Any]
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class SharedHeaders:
    """Headers of a response: headers shared with other responses, and its own.

    PERF: the server encodes the shared ones once. To apps and other servers this is an
    iterable of names and values.
    """

    __slots__ = ('own', 'shared')

    def __init__(
        self,
        shared: tuple[tuple[bytes, bytes], ...],
        own: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.shared = shared
        self.own = own

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return itertools.chain(self.shared, self.own)
