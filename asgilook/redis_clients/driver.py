"""What the cache and the events need of a Redis, whichever library talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol


class Subscription(Protocol):
    """A connection that hears a channel."""

    async def ping(self) -> None:
        """Return once Redis has answered on this very connection."""

    def messages(self) -> AsyncIterator[bytes]:
        """Yield what comes; end, or raise anything, where some may have been lost."""

    async def close(self) -> None:
        """Hear no more, and close the connection."""


class Driver(Protocol):
    """A client that is made when it is first needed, and anew on each event loop.

    Everything may take for ever, and may raise anything; a `refusals` error says that
    Redis lives, but not for this command. `address` is for the log.
    """

    address: str
    refusals: tuple[type[Exception], ...]

    async def connect(self) -> bool:
        """Make the client, where there is none yet; False if there is no Redis."""

    async def ping(self) -> Any:
        """Ask for any answer."""

    async def getrange(self, key: str, end: int) -> Any:
        """Return the bytes of a value from the first to number `end`."""

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Keep a value for `ttl` seconds."""

    async def delete(self, *keys: str) -> None:
        """Remove the values of all these keys."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to all who hear a channel."""

    async def subscribe(self, channel: str) -> Subscription:
        """Hear a channel, from when this returns."""

    async def disconnect(self) -> None:
        """Close the connections; the next command opens others."""
