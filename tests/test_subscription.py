from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from asgilook import subscription
from asgilook.subscription import QUEUE, Subscription, encode


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
    monkeypatch.setattr(subscription, 'LOOK_SECONDS', 0.001)

    async def main() -> list[bytes]:
        stream = Subscription(b'hello', no_spread)
        await read(stream)
        return [await read(stream) for _ in range(2 * subscription.HEARTBEAT)]

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
        stream.end()
        async with asyncio.timeout(1):
            with pytest.raises(StopAsyncIteration):
                await read(stream)

    asyncio.run(main())


def test_end_while_it_waits_for_its_turn() -> None:
    async def main() -> None:
        streams = [Subscription(b'hello', lambda: 0.1) for _ in range(2)]
        reads = [asyncio.ensure_future(read(stream)) for stream in streams]
        await asyncio.sleep(0)
        for stream in streams:
            stream.end()
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(result, StopAsyncIteration) for result in results)

    asyncio.run(main())


def test_shares_of_the_spread_differ() -> None:
    shares = sorted(Subscription(b'', no_spread)._share for _ in range(100))
    gaps = [b - a for a, b in itertools.pairwise(shares)]
    assert max(gaps) < 0.03
    assert 0 <= shares[0] < shares[-1] < 1
