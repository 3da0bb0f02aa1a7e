from __future__ import annotations

import asyncio
import gc
import io
from typing import BinaryIO

import pytest

from asgilook.storage.stream import FileStream

CONTENT = bytes(range(10))


async def read_block(file: BinaryIO, position: int, stop: int) -> bytes:
    file.seek(position)
    return file.read(min(3, stop - position))


def open_stream(start: int, stop: int) -> tuple[FileStream, io.BytesIO]:
    file = io.BytesIO(CONTENT)
    first = CONTENT[start : min(start + 3, stop)]
    return FileStream(file, first, start, stop, read_block=read_block), file


async def collect(stream: FileStream) -> list[bytes]:
    return [block async for block in stream]


@pytest.mark.parametrize(
    ('start', 'stop', 'blocks'),
    [
        (0, 10, [b'\0\1\2', b'\3\4\5', b'\6\7\x08', b'\x09']),
        (4, 6, [b'\4\5']),
        (0, 3, [b'\0\1\2']),
        (9, 10, [b'\x09']),
    ],
)
def test_blocks(start: int, stop: int, blocks: list[bytes]) -> None:
    stream, file = open_stream(start, stop)
    assert asyncio.run(collect(stream)) == blocks
    assert file.closed


def test_empty_range() -> None:
    stream, _ = open_stream(5, 5)
    assert asyncio.run(collect(stream)) == []


def test_file_is_closed_with_its_last_block() -> None:
    stream, file = open_stream(0, 3)
    assert asyncio.run(anext(stream)) == b'\0\1\2'
    assert file.closed


def test_close() -> None:
    stream, file = open_stream(0, 10)
    asyncio.run(stream.close())
    assert file.closed
    assert asyncio.run(collect(stream)) == []


def test_stream_that_is_dropped() -> None:
    stream, file = open_stream(0, 10)
    del stream
    gc.collect()
    assert file.closed
