from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from asgilook.events import stream as streams
from asgilook.events.stream import QUEUE, Subscription, encode


def no_spread() -> float:
    return 0


async def read(stream: Subscription) -> bytes:
    return (await anext(stream)).serialize()


def test_encode_is_one_line_of_data() -> None:
    block = encode('1-a', 'image', {'id': 'a\nb\r'})
    head, _, data = block.partition(b'data: ')
    assert head == b'event: image\nid: 1-a\n'
    assert data.endswith(b'\n\n')
    assert data.count(b'\n') == 2
    assert json.loads(data) == {'id': 'a\nb\r'}


def test_what_waits_is_written_at_once() -> None:
    async def main() -> None:
        stream = Subscription(b'hello ', no_spread)
        assert aiter(stream) is stream
        assert stream.put(b'1')
        assert await read(stream) == b'hello 1'
        assert stream.put(b'2')
        assert stream.put(b'3')
        assert await read(stream) == b'23'

    asyncio.run(main())


def test_idle_stream_looks_and_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, 'LOOK_SECONDS', 0.001)

    async def main() -> list[bytes]:
        stream = Subscription(b'hello', no_spread)
        await read(stream)
        return [await read(stream) for _ in range(2 * streams.HEARTBEAT)]

    blocks = asyncio.run(main())
    assert blocks == 2 * [*6 * [b''], b':\n\n']


def test_client_that_does_not_read_is_ended() -> None:
    async def main() -> None:
        stream = Subscription(b'hello', no_spread)
        assert all(stream.put(b'event') for _ in range(QUEUE - 1))
        assert not stream.put(b'one too many')
        with pytest.raises(StopAsyncIteration):
            await read(stream)

    asyncio.run(main())


def test_end_does_not_wait_for_the_spread() -> None:
    async def main() -> None:
        stream = Subscription(b'hello', lambda: 1e6)
        await read(stream)
        assert stream.put(b'event')
        asyncio.get_running_loop().call_later(0.01, stream.end)
        async with asyncio.timeout(1):
            with pytest.raises(StopAsyncIteration):
                await read(stream)

    asyncio.run(main())


def test_event_at_the_very_moment_of_a_look() -> None:
    async def main() -> None:
        stream = Subscription(b'hello', no_spread)
        await read(stream)
        waiting = asyncio.ensure_future(read(stream))
        await asyncio.sleep(0)
        assert stream._waiter is not None
        streams._resolve(stream._waiter)
        stream.put(b'event')
        stream._wake()
        assert await waiting == b'event'

    asyncio.run(main())


def test_stream_is_written_to_once_in_a_spread() -> None:
    async def main() -> None:
        stream = Subscription(b'hello', lambda: 0.2)
        await read(stream)
        start = time.monotonic()
        for number in range(4):
            stream.put(b'%d' % number)
            await asyncio.sleep(0.01)
        assert await read(stream) == b'0123'
        assert 0.19 < time.monotonic() - start < 0.6

    asyncio.run(main())


def test_turns_of_idle_streams_differ() -> None:
    async def main() -> list[float]:
        streams = [Subscription(b'', lambda: 1.0) for _ in range(100)]
        now = asyncio.get_running_loop().time()
        return sorted(stream._turn() - now for stream in streams)

    turns = asyncio.run(main())
    gaps = [b - a for a, b in itertools.pairwise(turns)]
    assert max(gaps) < 0.03
    assert 0 <= turns[0] < turns[-1] < 1.1
