"""Server-Sent Events: what is uploaded and deleted, told to whoever listens.

Every worker has a `Hub` of its own subscriptions. With Redis, events go through it,
also to the worker that they come from: so all workers have one history, and a client
may resume at any of them. Without, events stay within their worker. Whoever may have
missed some is told to `reload`: to read the list again.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import secrets
import time
import weakref
from typing import Any

import falcon
import falcon.asgi
import msgpack

from ..config import Config
from ..errors import Unavailable
from ..redis_clients.factory import create_driver
from ..web.lifespan import Draining
from .relay import Relay
from .stream import Subscription, encode

log = logging.getLogger(__name__)

# What a client can have missed and still resume.
HISTORY = 1000
SUBSCRIBERS = 10_000
RETRY_MS = 2000

# A thousand streams are not written to at once, which would hold up all else: each
# one adds to the seconds over which they spread, up to a limit.
SPREAD = 0.001
MOST_SPREAD = 0.8

_NAMES = frozenset({'image', 'deleted', 'reload'})
_ID = re.compile('[0-9a-f]{1,32}-[0-9a-f]{1,32}')
_VERSION = 1
_LARGEST = 64 * 1024

_HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Type': 'text/event-stream',
    'X-Accel-Buffering': 'no',
    'X-Content-Type-Options': 'nosniff',
}


class Hub:
    """The subscriptions of this worker.

    `dropped` counts those that were ended because their clients did not read.
    """

    def __init__(self, config: Config, draining: Draining) -> None:
        self._draining = draining
        self._relay = Relay(create_driver(config), config.redis_timeout, self)
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._token = secrets.token_hex(4)
        self._last_ns = 0
        self._history: dict[str, bytes] = {}
        self._before_history = self._new_id()
        # On their way through Redis; and whether any were told in this worker only.
        self._sent: dict[str, tuple[str, Any]] = {}
        self._told_alone = False
        self._closing: asyncio.Task[None] | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._subscriptions)

    async def start(self) -> None:
        """Join the other workers, in the background."""
        self._relay.start()
        self._closing = asyncio.create_task(self._close_in_time())

    async def stop(self) -> None:
        """End all streams."""
        await self._relay.stop()
        self._close()
        if self._closing is not None:
            self._closing.cancel()

    def publish(self, name: str, data: Any) -> None:
        """Tell all subscribers of all workers, soon: `data` goes as JSON."""
        event_id = self._new_id()
        message = msgpack.packb([_VERSION, event_id, name, data])
        if len(self._sent) < HISTORY and self._relay.send(message):
            self._sent[event_id] = name, data
        else:
            self._tell_alone(event_id, name, data)

    def subscribe(self, last_event_id: str | None = None) -> Subscription:
        """Begin a stream with what came after an event; raises `Unavailable`."""
        if self._draining.is_draining or len(self) >= SUBSCRIBERS:
            raise Unavailable('There can be no more event streams now.', 5)
        subscription = Subscription(self._greet(last_event_id), self._spread)
        self._subscriptions.add(subscription)
        return subscription

    def joined(self) -> None:
        """Redis is there; what others did until now is unknown."""
        self._reload(self._new_id())
        if self._told_alone:
            self._told_alone = False
            self.publish('reload', {})

    def received(self, message: bytes) -> None:
        """Take an event of any worker, and nothing else that may be in Redis."""
        try:
            version, event_id, name, data = msgpack.unpackb(message[:_LARGEST])
            block = encode(event_id, name, data)
        except Exception:  # garbage may fail in any way
            return
        if version != _VERSION or name not in _NAMES or not _ID.fullmatch(event_id):
            return
        self._sent.pop(event_id, None)
        if name == 'reload':
            self._reload(event_id)
        else:
            self._tell(event_id, block)

    def left(self) -> None:
        """Redis is gone; what has not come back is told here at least."""
        sent, self._sent = self._sent, {}
        for event_id, (name, data) in sent.items():
            self._tell_alone(event_id, name, data)

    def _new_id(self) -> str:
        self._last_ns = max(self._last_ns + 1, time.time_ns())
        return f'{self._last_ns:x}-{self._token}'

    def _tell_alone(self, event_id: str, name: str, data: Any) -> None:
        self._told_alone = True
        self._tell(event_id, encode(event_id, name, data))

    def _tell(self, event_id: str, block: bytes) -> None:
        self._history[event_id] = block
        if len(self._history) > HISTORY:
            self._before_history = next(iter(self._history))
            del self._history[self._before_history]
        self._put(block)

    def _reload(self, event_id: str) -> None:
        self._history.clear()
        self._before_history = event_id
        self._put(encode(event_id, 'reload', {}))

    def _put(self, block: bytes) -> None:
        dropped = [each for each in list(self._subscriptions) if not each.put(block)]
        if dropped:
            self._subscriptions.difference_update(dropped)
            self.dropped += len(dropped)
            log.warning('dropped %d subscribers that did not read', len(dropped))

    def _greet(self, last: str | None) -> bytes:
        """Write what came after the event `last`, and then where the stream is."""
        ids = [self._before_history, *self._history]
        missed: list[bytes] = []
        if last in ids:
            missed = list(self._history.values())[ids.index(last) :]
        elif last is not None:
            missed = [encode(ids[-1], 'reload', {})]
        return b''.join(missed) + f'retry: {RETRY_MS}\nid: {ids[-1]}\n\n'.encode()

    def _spread(self) -> float:
        return min(MOST_SPREAD, SPREAD * len(self))

    async def _close_in_time(self) -> None:
        """End the streams before the server waits for them to end."""
        await self._draining.wait()
        self._close()

    def _close(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.end()


class Events:
    """The event stream at `/events`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Stream events from now on, or from where the client was."""
        resp.set_headers(_HEADERS)
        resp.sse = self._hub.subscribe(req.get_header('Last-Event-ID'))

    async def on_head(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Say what `on_get` would, without a stream."""
        resp.set_headers(_HEADERS)
        # Not read: it keeps Falcon from announcing a length of 0.
        resp.stream = io.BytesIO()  # type: ignore[assignment]
