from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgilook.errors import StorageUnavailable
from asgilook.resources import probes
from asgilook.resources.probes import ComponentState, Probes


async def up() -> ComponentState:
    """Stand for a component that works."""
    return 'up'


async def none() -> ComponentState:
    """Stand for a component that is not configured."""
    return 'none'


async def zero() -> int:
    """Stand for an index without images."""
    return 0


def make_probes(**functions: Any) -> Probes:
    """Return probes; other components work, and there is no database."""
    working: dict[str, Any] = {
        'is_storage_usable': lambda: True,
        'free_bytes': lambda: 10**9,
        'count_images': zero,
        'database_state': none,
        'redis_state': up,
    }
    return Probes(**{**working, **functions})


async def test_components() -> None:
    found = await make_probes(database_state=up, redis_state=none).components()
    assert found == {'storage': 'up', 'database': 'up', 'redis': 'none'}


async def test_no_database_is_left_out() -> None:
    assert 'database' not in await make_probes().components()


async def test_free_bytes() -> None:
    assert await make_probes(free_bytes=lambda: 7).free_bytes() == 7


async def test_free_bytes_of_missing_folder_are_unknown() -> None:
    def fail() -> int:
        raise FileNotFoundError

    assert await make_probes(free_bytes=fail).free_bytes() is None


async def test_free_bytes_of_hanging_disk_are_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probes, 'PROBE_TIMEOUT', 0.01)
    over = threading.Event()

    def wait() -> int:
        over.wait(30)
        return 7

    found = make_probes(free_bytes=wait)
    assert await found.free_bytes() is None
    over.set()


class Clock:
    """Stands for the module `time`; each count takes some of its seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.counts = 0
        self.seconds = 0.1

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    async def count(self) -> int:
        """Stand for `Index.count`."""
        self.now += self.seconds
        self.counts += 1
        return self.counts


async def test_slow_count_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(probes, 'time', clock)
    found = make_probes(count_images=clock.count)
    assert await found.image_count() == 1
    clock.now += 9.9
    assert await found.image_count() == 1
    clock.now += 0.2
    assert await found.image_count() == 2
    clock.seconds = 0
    clock.now += 11
    assert await found.image_count() == 3
    assert await found.image_count() == 4  # this costs nothing


async def fail() -> int:
    """Stand for an index whose database is unavailable."""
    raise StorageUnavailable('The database is unavailable.')


async def hang() -> int:
    """Stand for an index whose database does not answer."""
    return await asyncio.sleep(30, 0)


@pytest.mark.parametrize('count_images', [fail, hang])
async def test_failed_count_is_unknown(
    monkeypatch: pytest.MonkeyPatch, count_images: Callable[[], Awaitable[int]]
) -> None:
    monkeypatch.setattr(probes, 'PROBE_TIMEOUT', 0.01)
    found = make_probes(count_images=count_images)
    assert await found.image_count() is None
