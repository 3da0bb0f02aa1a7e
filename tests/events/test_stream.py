from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from asgilook.events.stream import (
    MAX_QUEUE,
    POLL_INTERVAL,
    POLLS_PER_HEARTBEAT,
    EventStream,
)

from ..virtual_time import VIRTUAL_TIME


@pytest.fixture
def anyio_backend() -> Any:
    return VIRTUAL_TIME


def no_spread() -> float:
    return 0


async def read(stream: EventStream) -> bytes:
    return (await anext(stream)).serialize()


def now() -> float:
    return asyncio.get_running_loop().time()


async def opened(spread: float) -> EventStream:
    """Return a stream whose greeting has been read."""
    stream = EventStream(b'hello', spread=lambda: spread)
    assert await read(stream) == b'hello'
    return stream


async def test_queue_is_written_at_once() -> None:
    stream = EventStream(b'hello ', spread=no_spread)
    assert aiter(stream) is stream
    assert stream.put(b'1')
    assert await read(stream) == b'hello 1'
    assert stream.put(b'2')
    assert stream.put(b'3')
    assert await read(stream) == b'23'
    assert now() == 0


async def test_idle_stream_yields_empty_blocks_and_heartbeats() -> None:
    stream = await opened(0)
    blocks = [await read(stream) for _ in range(2 * POLLS_PER_HEARTBEAT)]
    assert blocks == 2 * [*6 * [b''], b':\n\n']
    assert now() == 2 * POLLS_PER_HEARTBEAT * POLL_INTERVAL


async def test_stream_of_slow_client_ends() -> None:
    stream = EventStream(b'hello', spread=no_spread)
    assert all(stream.put(b'event') for _ in range(MAX_QUEUE - 1))
    assert not stream.put(b'one too many')
    with pytest.raises(StopAsyncIteration):
        await read(stream)


async def test_end_does_not_wait_for_the_next_write() -> None:
    stream = await opened(1e6)
    assert stream.put(b'event')
    asyncio.get_running_loop().call_later(0.01, stream.end)
    with pytest.raises(StopAsyncIteration):
        await read(stream)
    assert now() == pytest.approx(0.01)


async def test_write_is_due_at_the_time_of_a_poll() -> None:
    stream = await opened(POLL_INTERVAL)
    stream.put(b'event')
    assert await read(stream) == b'event'
    assert now() == POLL_INTERVAL


async def test_stream_is_written_to_once_in_a_spread() -> None:
    stream = await opened(0.2)
    for number in range(4):
        stream.put(b'%d' % number)
        await asyncio.sleep(0.01)
    assert await read(stream) == b'0123'
    assert now() == pytest.approx(0.2)


async def test_writes_of_idle_streams_are_spread_evenly() -> None:
    streams = [await opened(1.0) for _ in range(100)]
    await asyncio.sleep(10)
    start = now()

    async def written_at(stream: EventStream) -> float:
        stream.put(b'event')
        assert await read(stream) == b'event'
        return now() - start

    times = sorted(await asyncio.gather(*map(written_at, streams)))
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.03
    assert 0 <= times[0] < times[-1] < 1.1
