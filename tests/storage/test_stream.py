from __future__ import annotations

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
async def test_blocks(start: int, stop: int, blocks: list[bytes]) -> None:
    stream, file = open_stream(start, stop)
    assert await collect(stream) == blocks
    assert file.closed


async def test_empty_range() -> None:
    stream, _ = open_stream(5, 5)
    assert await collect(stream) == []


async def test_file_is_closed_with_its_last_block() -> None:
    stream, file = open_stream(0, 3)
    assert await anext(stream) == b'\0\1\2'
    assert file.closed


async def test_close() -> None:
    stream, file = open_stream(0, 10)
    await stream.close()
    assert file.closed
    assert await collect(stream) == []


def test_stream_that_is_dropped() -> None:
    stream, file = open_stream(0, 10)
    del stream
    gc.collect()
    assert file.closed
