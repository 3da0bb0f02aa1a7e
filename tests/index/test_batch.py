from __future__ import annotations

import asyncio
from collections.abc import Set

import pytest

from asgilook.index.batch import Batch

from ..conftest import apart, until


class Source:
    """Answers one query after the other, each when it is let."""

    def __init__(self) -> None:
        self.values = {'a': 1, 'b': 2, 'c': 3}
        self.asked: list[set[str]] = []
        self.turns = asyncio.Semaphore(0)

    async def ask(self, keys: Set[str]) -> dict[str, int]:
        self.asked.append(set(keys))
        found = {key: self.values[key] for key in keys if key in self.values}
        await self.turns.acquire()
        if 'broken' in keys:
            raise ValueError('broken')
        return found

    async def wait_for(self, queries: int) -> None:
        await until(lambda: len(self.asked) == queries)


def test_lookups_that_overlap_share_a_query() -> None:
    async def main() -> None:
        source = Source()
        batch = Batch(source.ask)
        first = asyncio.create_task(batch.get('a'))
        await source.wait_for(1)
        others = [asyncio.create_task(batch.get(key)) for key in 'abbcx']
        source.turns.release()
        assert await first == 1
        await source.wait_for(2)
        source.turns.release()
        assert await asyncio.gather(*others) == [1, 2, 2, 3, None]
        assert source.asked == [{'a'}, {'a', 'b', 'c', 'x'}]

    asyncio.run(main())


def test_lookup_is_not_answered_by_a_query_that_began_before() -> None:
    async def main() -> None:
        source = Source()
        batch = Batch(source.ask)
        before = asyncio.create_task(batch.get('a'))
        await source.wait_for(1)
        del source.values['a']
        after = asyncio.create_task(batch.get('a'))
        source.turns.release()
        assert await before == 1
        source.turns.release()
        assert await after is None

    asyncio.run(main())


def test_error_reaches_all_who_wait_and_nobody_else() -> None:
    async def main() -> None:
        source = Source()
        batch = Batch(source.ask)
        failing = [asyncio.create_task(batch.get(key)) for key in ('a', 'broken')]
        await source.wait_for(1)
        sound = asyncio.create_task(batch.get('a'))
        source.turns.release()
        source.turns.release()
        for task in failing:
            with pytest.raises(ValueError, match='broken'):
                await task
        assert await sound == 1

    apart(asyncio.run, main())


def test_cancelled_lookup_leaves_the_others() -> None:
    async def main() -> None:
        source = Source()
        batch = Batch(source.ask)
        cancelled, other = (asyncio.create_task(batch.get('a')) for _ in range(2))
        await source.wait_for(1)
        cancelled.cancel()
        source.turns.release()
        assert await other == 1
        assert cancelled.cancelled()
        assert len(source.asked) == 1

    asyncio.run(main())


def test_stop_waits_for_the_query_under_way(caplog: pytest.LogCaptureFixture) -> None:
    """Also where nobody waits for it any more, and it fails."""

    async def main() -> None:
        source = Source()
        batch = Batch(source.ask)
        lookup = asyncio.create_task(batch.get('broken'))
        await source.wait_for(1)
        lookup.cancel()
        stopping = asyncio.create_task(batch.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        source.turns.release()
        await stopping
        await batch.stop()

    asyncio.run(main())
    assert caplog.text == ''


def test_query_that_is_cancelled_cancels_its_lookups() -> None:
    """As the end of the event loop does it."""

    async def main() -> None:
        source = Source()
        batch = Batch(source.ask)
        lookup = asyncio.create_task(batch.get('a'))
        await source.wait_for(1)
        (query,) = asyncio.all_tasks() - {asyncio.current_task(), lookup}
        query.cancel()
        await asyncio.wait([lookup])
        assert lookup.cancelled()

    asyncio.run(main())
