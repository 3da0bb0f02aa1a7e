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


class HeaderBlock:
    """Headers that responses share.

    Attributes:
        headers: names in lower case, and values.
        encoded: what the server has made of them; None before the first response.
    """

    __slots__ = ('encoded', 'headers')

    def __init__(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.headers = headers
        self.encoded: Any = None


class SharedHeaders:
    """Headers of a response: a block shared with other responses, and its own.

    PERF: the server encodes a block once. To apps and other servers this is an iterable
    of names and values.
    """

    __slots__ = ('block', 'own')

    def __init__(
        self, block: HeaderBlock, own: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.block = block
        self.own = own

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return itertools.chain(self.block.headers, self.own)
