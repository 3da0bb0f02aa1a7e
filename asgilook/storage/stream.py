"""A range of an image file as an asynchronous stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO

# Reads up to a number of bytes from a position of a file.
ReadBlock = Callable[[BinaryIO, int, int], Awaitable[bytes]]


class FileStream(AsyncIterator[bytes]):
    """Yields blocks of an open file, of which the first one is read already.

    The file is closed after the last block, by `close`, or when the stream is
    garbage-collected: Falcon doesn't close the stream of a response that it never
    starts to send.

    Args:
        file: file to read from, and to close.
        first: block at `position`.
        position: offset of the first block, in bytes.
        stop: offset of the end.
        read_block: reads the following blocks; raises `StorageUnavailable`.
    """

    def __init__(
        self,
        file: BinaryIO,
        first: bytes,
        position: int,
        stop: int,
        *,
        read_block: ReadBlock,
    ) -> None:
        self._file = file
        self._first = first
        self._position = position
        self._stop = stop
        self._read_block = read_block

    async def __anext__(self) -> bytes:
        if self._position >= self._stop:
            raise StopAsyncIteration
        block, self._first = self._first, b''
        if not block:
            block = await self._read_block(self._file, self._position, self._stop)
        self._position += len(block)
        if self._position >= self._stop:
            self._file.close()
        return block

    async def close(self) -> None:
        """Close the file; Falcon calls this at the end of a response."""
        self.release()

    def release(self) -> None:
        """Close the file."""
        self._stop = 0
        self._file.close()

    def __del__(self) -> None:
        self.release()
