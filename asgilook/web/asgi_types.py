"""Types of the ASGI specification, as far as the package uses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Scope = dict[str, Any]
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
# Not to be changed: a cache may share it between responses.
ResponseHead = Sequence[tuple[bytes, bytes]]
