"""A range of an image file as an asynchronous stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import BinaryIO

from ..concurrency import CallInThread, outlive
from ..config import Config
from ..errors import StorageUnavailable
from ..models import Image
from .base import Storage
from .factory import open_image

BLOCK_SIZE = 1024 * 1024

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


class ImageReader:
    """Reads image files, whole or as a stream; failures are logged.

    Args:
        config: the settings.
        storage: where the files are stored.
        call: calls a blocking function of the storage in a thread.
    """

    def __init__(self, *, config: Config, storage: Storage, call: CallInThread) -> None:
        self._config = config
        self._storage = storage
        self._call = call

    async def read(self, image: Image) -> bytes:
        """Return a whole image."""
        return await self._call(self._read, image)

    async def open_stream(self, image: Image, start: int, stop: int) -> FileStream:
        """Open a file, and read its first block; see `Store.open_stream`."""
        task = asyncio.create_task(self._open_stream(image, start, stop))
        try:
            return await outlive(task)
        except asyncio.CancelledError:
            task.add_done_callback(_release)
            raise

    def _read(self, image: Image) -> bytes:
        local = self._storage.local
        with (
            local.reading(image.image_id),
            open_image(self._config, self._storage, image) as file,
        ):
            data = file.read()
        local.was_read(image.image_id)
        return data

    async def _open_stream(self, image: Image, start: int, stop: int) -> FileStream:
        read = partial(self._read_block, image)
        file = await self._call(open_image, self._config, self._storage, image)
        try:
            first = await self._call(read, file, start, stop) if start < stop else b''
        except BaseException:
            file.close()
            raise
        return FileStream(
            file, first, start, stop, read_block=partial(self._call, read)
        )

    def _read_block(
        self, image: Image, file: BinaryIO, position: int, stop: int
    ) -> bytes:
        with self._storage.local.reading(image.image_id):
            file.seek(position)
            block = file.read(min(BLOCK_SIZE, stop - position))
        if not block:
            raise StorageUnavailable('The stored file is shorter than expected.')
        if position + len(block) >= stop:
            self._storage.local.was_read(image.image_id)
        return block


def _release(task: asyncio.Task[FileStream]) -> None:
    """Close the file of a stream that its caller no longer waits for."""
    if not task.cancelled() and task.exception() is None:
        task.result().release()
