from __future__ import annotations

import asyncio
from collections.abc import Set

import pytest

from asgilook.index.batch import Batch

from ..conftest import until


class Source:
    """Answers each query when `turns` is released."""

    def __init__(self) -> None:
        self.values = {'a': 1, 'b': 2, 'c': 3}
        self.queries: list[set[str]] = []
        self.turns = asyncio.Semaphore(0)

    async def query(self, keys: Set[str]) -> dict[str, int]:
        self.queries.append(set(keys))
        found = {key: self.values[key] for key in keys if key in self.values}
        await self.turns.acquire()
        if 'broken' in keys:
            raise ValueError('broken')
        return found

    async def wait_for(self, queries: int) -> None:
        await until(lambda: len(self.queries) == queries)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def batch(source: Source) -> Batch[int]:
    return Batch(source.query)


async def test_overlapping_lookups_share_a_query(
    source: Source, batch: Batch[int]
) -> None:
    first = asyncio.create_task(batch.get('a'))
    await source.wait_for(1)
    others = [asyncio.create_task(batch.get(key)) for key in 'abbcx']
    source.turns.release()
    assert await first == 1
    await source.wait_for(2)
    source.turns.release()
    assert await asyncio.gather(*others) == [1, 2, 2, 3, None]
    assert source.queries == [{'a'}, {'a', 'b', 'c', 'x'}]


async def test_lookup_is_not_answered_by_an_earlier_query(
    source: Source, batch: Batch[int]
) -> None:
    before = asyncio.create_task(batch.get('a'))
    await source.wait_for(1)
    del source.values['a']
    after = asyncio.create_task(batch.get('a'))
    source.turns.release()
    assert await before == 1
    source.turns.release()
    assert await after is None


async def test_error_reaches_only_the_callers_of_its_query(
    source: Source, batch: Batch[int]
) -> None:
    failing = [asyncio.create_task(batch.get(key)) for key in ('a', 'broken')]
    await source.wait_for(1)
    sound = asyncio.create_task(batch.get('a'))
    source.turns.release()
    source.turns.release()
    for task in failing:
        with pytest.raises(ValueError, match='broken'):
            await task
    assert await sound == 1


async def test_cancelled_lookup_does_not_affect_others(
    source: Source, batch: Batch[int]
) -> None:
    cancelled, other = (asyncio.create_task(batch.get('a')) for _ in range(2))
    await source.wait_for(1)
    cancelled.cancel()
    source.turns.release()
    assert await other == 1
    assert cancelled.cancelled()
    assert len(source.queries) == 1


async def test_stop_waits_for_running_query(
    source: Source, batch: Batch[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Also if its callers were cancelled, and it fails."""
    lookup = asyncio.create_task(batch.get('broken'))
    await source.wait_for(1)
    lookup.cancel()
    stopping = asyncio.create_task(batch.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    source.turns.release()
    await stopping
    await batch.stop()
    assert caplog.text == ''


async def test_cancelled_query_cancels_its_lookups(
    source: Source, batch: Batch[int]
) -> None:
    """As at the end of the event loop."""
    before = asyncio.all_tasks()
    lookup = asyncio.create_task(batch.get('a'))
    await source.wait_for(1)
    (query,) = asyncio.all_tasks() - before - {lookup}
    query.cancel()
    await asyncio.wait([lookup])
    assert lookup.cancelled()
