from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgilook.concurrency import in_task
from asgilook.web import eager


async def start(coroutine: Any) -> asyncio.Task[None] | None:
    """Start a coroutine as a protocol does: from a callback, not in a task."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()
    loop.call_soon(lambda: started.set_result(eager.start(loop, coroutine)))
    return await started


async def test_coroutine_that_never_waits_needs_no_task() -> None:
    seen = []

    async def run() -> None:
        seen.append(asyncio.current_task())

    assert await start(run()) is None
    assert seen == [None]


async def test_future_is_waited_for_in_a_task() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    results = []

    async def run() -> None:
        results.append(await future)
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        results.append(4)

    task = await start(run())
    assert task is not None
    await asyncio.sleep(0)
    assert results == []
    future.set_result(3)
    await task
    assert results == [3, 4]


async def test_in_task() -> None:
    seen = []

    async def run() -> None:
        for _ in range(2):
            await in_task()
            seen.append(asyncio.current_task())

    task = await start(run())
    assert task is not None
    await task
    assert seen == [task, task]


async def test_exception_of_a_future() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        with pytest.raises(ValueError, match='late'):
            await future
        raise KeyError

    task = await start(run())
    assert task is not None
    future.set_exception(ValueError('late'))
    with pytest.raises(KeyError):
        await task


@pytest.mark.parametrize('turns', [0, 1, 2])
async def test_cancellation(turns: int) -> None:
    """It reaches the coroutine, whether the task has begun or not."""
    ended = []

    async def run() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append(True)
            raise

    task = await start(run())
    assert task is not None
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_cleanup_after_a_cancellation_before_the_task_begins() -> None:
    loop = asyncio.get_running_loop()
    started: asyncio.Future[asyncio.Task[None]] = loop.create_future()
    ended = []

    async def run() -> None:
        try:
            await loop.create_future()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    def begin() -> None:
        task = eager.start(loop, run())
        assert task is not None
        task.cancel()
        started.set_result(task)

    loop.call_soon(begin)
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await (await started)
    assert ended == [True]


async def test_is_a_coroutine_itself() -> None:
    ended = []

    async def run() -> None:
        await asyncio.sleep(0)
        ended.append(True)

    await eager.StartedCoroutine(run(), None)
    assert ended == [True]
    closed = run()
    eager.StartedCoroutine(closed, None).close()
    with pytest.raises(RuntimeError):
        closed.send(None)
