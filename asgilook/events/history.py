"""The latest events, from which a client resumes after its connection was lost."""

from __future__ import annotations


class History:
    """Blocks of a stream by their event ids, oldest first.

    Args:
        start_id: id of the event before the first one.
        size: number of events kept.
    """

    def __init__(self, start_id: str, size: int) -> None:
        self._start_id = start_id
        self._size = size
        self._blocks: dict[str, bytes] = {}

    @property
    def last_id(self) -> str:
        """Id of the latest event."""
        return next(reversed(self._blocks), self._start_id)

    def append(self, event_id: str, block: bytes) -> None:
        """Add an event; the oldest may be dropped for it."""
        self._blocks[event_id] = block
        if len(self._blocks) > self._size:
            self._start_id = next(iter(self._blocks))
            del self._blocks[self._start_id]

    def restart(self, start_id: str) -> None:
        """Drop all events, as some may be missing."""
        self._blocks.clear()
        self._start_id = start_id

    def since(self, event_id: str) -> list[bytes] | None:
        """Return the blocks after an event; None if that is unknown."""
        ids = [self._start_id, *self._blocks]
        if event_id not in ids:
            return None
        return list(self._blocks.values())[ids.index(event_id) :]
