from __future__ import annotations

import pytest

from asgilook.events.history import History


@pytest.fixture
def history() -> History:
    """Return a history of three events, with the ids a, b and c."""
    history = History('start', 3)
    for event_id in 'abc':
        history.append(event_id, event_id.upper().encode())
    return history


def test_empty() -> None:
    history = History('start', 3)
    assert history.last_id == 'start'
    assert history.since('start') == []
    assert history.since('a') is None


@pytest.mark.parametrize(
    ('event_id', 'blocks'),
    [
        ('start', [b'A', b'B', b'C']),
        ('a', [b'B', b'C']),
        ('b', [b'C']),
        ('c', []),
        ('d', None),
    ],
)
def test_since(history: History, event_id: str, blocks: list[bytes] | None) -> None:
    assert history.since(event_id) == blocks
    assert history.last_id == 'c'


def test_oldest_event_is_dropped(history: History) -> None:
    history.append('d', b'D')
    assert history.since('start') is None
    assert history.since('a') == [b'B', b'C', b'D']
    assert history.last_id == 'd'


def test_restart(history: History) -> None:
    history.restart('again')
    assert history.last_id == 'again'
    assert history.since('again') == []
    assert history.since('c') is None
