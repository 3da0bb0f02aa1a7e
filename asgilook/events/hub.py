"""The event streams of a worker, and what they receive.

With Redis, all events go through it, and return to the worker that sent them: so all
workers have the same history, and a client can resume at any of them. Without Redis,
events stay within their worker. A client that may have missed events receives
`reload`: it must request the list again. This includes the clients of all workers if
one worker publishes events faster than Redis takes them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import weakref
from typing import Any

from ..errors import Unavailable
from ..metrics.registry import Metrics
from ..web.lifespan import Draining
from .history import History
from .messages import Event, InvalidMessage, parse
from .relay import Relay
from .stream import EventStream

log = logging.getLogger(__name__)

HISTORY_SIZE = 1000
MAX_IN_FLIGHT = 1000
MAX_STREAMS = 10_000
RETRY_MS = 2000

# PERF: writing to thousands of streams at once delays other requests. The writes are
# spread over a time that grows with the number of streams, up to a limit.
SPREAD_PER_STREAM = 0.001
MAX_SPREAD = 0.8


class Hub:
    """Delivers events to the open streams of this worker."""

    def __init__(self, relay: Relay, draining: Draining, metrics: Metrics) -> None:
        self._relay = relay
        self._draining = draining
        self._metrics = metrics
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._token = secrets.token_hex(4)
        self._last_ns = 0
        self._history = History(self._new_id(), HISTORY_SIZE)
        # Events that were sent through Redis, and have not returned yet.
        self._in_flight: dict[str, Event] = {}
        self._others_missed_events = False
        # Whether events are dropped until Redis has taken the earlier ones.
        self._is_overflowing = False
        self._closing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._streams)

    async def start(self) -> None:
        """Connect to the other workers, in the background."""
        self._relay.start(self)
        self._closing = asyncio.create_task(self._close_when_draining())

    async def stop(self) -> None:
        """End all streams."""
        await self._relay.stop()
        self._close()
        if self._closing is not None:
            self._closing.cancel()

    def publish(self, name: str, data: Any) -> None:
        """Send an event to the streams of all workers, without waiting for it.

        An event that would overtake earlier ones is dropped; `on_sent` replaces it.
        """
        if self._is_overflowing:
            return
        event = Event(self._new_id(), name, data)
        is_full = len(self._in_flight) >= MAX_IN_FLIGHT
        if not is_full and self._relay.send(event.to_message()):
            self._in_flight[event.event_id] = event
        elif self._relay.is_connected:
            self._is_overflowing = True
        else:
            self._deliver_locally(event)

    def subscribe(self, last_event_id: str | None = None) -> EventStream:
        """Open a stream with the events after the given one; raises `Unavailable`."""
        if self._draining.is_draining or len(self) >= MAX_STREAMS:
            raise Unavailable('Too many event streams are open.', 5)
        stream = EventStream(self._greeting(last_event_id), spread=self.spread)
        self._streams.add(stream)
        return stream

    def spread(self) -> float:
        """Return over how many seconds to spread the writes of one event."""
        return min(MAX_SPREAD, SPREAD_PER_STREAM * len(self))

    def on_connect(self) -> None:
        """Handle a connection to Redis; earlier events of other workers are unknown."""
        self._reload(self._new_id())
        if self._others_missed_events:
            self._others_missed_events = False
            self.publish('reload', {})

    def on_message(self, message: bytes) -> None:
        """Deliver the event of any worker."""
        try:
            event = parse(message)
        except InvalidMessage as ex:
            self._metrics.events_invalid.inc()
            log.debug('ignored an invalid message from Redis: %s', ex)
            return
        self._in_flight.pop(event.event_id, None)
        if event.name == 'reload':
            self._reload(event.event_id)
        else:
            self._deliver(event)

    def on_sent(self) -> None:
        """After an overflow, replace the dropped events by a `reload`.

        It follows all events that were sent, so it also replaces those that Redis has
        not returned yet.
        """
        if self._is_overflowing:
            self._is_overflowing = False
            self._in_flight.clear()
            self.publish('reload', {})

    def on_disconnect(self) -> None:
        """Deliver the events that Redis has not returned."""
        lost, self._in_flight = self._in_flight, {}
        if self._is_overflowing:
            self._is_overflowing = False
            self._others_missed_events = True
            self._reload(self._new_id())
            return
        for event in lost.values():
            self._deliver_locally(event)

    def _new_id(self) -> str:
        self._last_ns = max(self._last_ns + 1, time.time_ns())
        return f'{self._last_ns:x}-{self._token}'

    def _deliver_locally(self, event: Event) -> None:
        self._others_missed_events = True
        self._deliver(event)

    def _deliver(self, event: Event) -> None:
        block = event.to_block()
        self._history.append(event.event_id, block)
        self._broadcast(block)

    def _reload(self, event_id: str) -> None:
        self._history.restart(event_id)
        self._broadcast(Event(event_id, 'reload', {}).to_block())

    def _broadcast(self, block: bytes) -> None:
        dropped = [each for each in list(self._streams) if not each.put(block)]
        if dropped:
            self._streams.difference_update(dropped)
            self._metrics.event_streams_dropped.inc(len(dropped))
            log.info('closed %d event streams of slow clients', len(dropped))

    def _greeting(self, last_event_id: str | None) -> bytes:
        """Return the events after the given one, and the position in the history."""
        last_id = self._history.last_id
        missed: list[bytes] | None = []
        if last_event_id is not None:
            missed = self._history.since(last_event_id)
        if missed is None:
            missed = [Event(last_id, 'reload', {}).to_block()]
        return b''.join(missed) + f'retry: {RETRY_MS}\nid: {last_id}\n\n'.encode()

    async def _close_when_draining(self) -> None:
        """Close the streams early: on shutdown the server waits for them to end."""
        await self._draining.wait()
        self._close()

    def _close(self) -> None:
        for stream in list(self._streams):
            stream.end()
