"""Request bodies: counted while they stream into a file, never held in memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterable
from typing import Any, Protocol

import falcon
import falcon.asgi
from falcon.media import MultipartFormHandler

from ..errors import BodyTimeout, InvalidRequest, UploadTooLarge
from .asgi_types import Event, Receive

# Minimum average rate of a body after `body_timeout`, in bytes per second: sending a
# byte now and then must not keep a request alive.
MIN_RATE = 1024

# Maximum size of a multipart form without its file, in bytes: boundaries, headers,
# fields.
FORM_OVERHEAD = 64 * 1024

# NOTE(case): called directly, since Falcon's look-up of handlers is case-sensitive.
_FORMS = MultipartFormHandler()

_BLOCK_SIZE = 256 * 1024

MIB = 1024 * 1024


class AsyncFile(Protocol):
    """The part of an aiofiles file that an upload uses."""

    async def write(self, data: bytes, /) -> Any:
        """Write all of `data`."""


async def receive_upload(req: falcon.asgi.Request, file: AsyncFile, limit: int) -> None:
    """Write the image in the body, raw or as the one file of a form, to `file`.

    Raises `UploadTooLarge` for more than `limit` bytes, and `InvalidRequest` for an
    empty or incomplete body, or a form without exactly one file.
    """
    if (req.content_type or '').lower().startswith('multipart/form-data'):
        received = await _receive_form(req, file, limit)
    else:
        _check_length(req.content_length, limit)
        received = await _receive(req.stream, file, limit)
        if received != (req.content_length or received):
            raise InvalidRequest('The request body is shorter than its Content-Length.')
    if not received:
        raise InvalidRequest('The request body is empty; send an image.')


async def _receive_form(req: falcon.asgi.Request, file: AsyncFile, limit: int) -> int:
    received = None
    content_type = req.content_type or ''
    _check_length(req.content_length, limit, overhead=FORM_OVERHEAD)
    async for part in await _FORMS.deserialize_async(
        req.stream, content_type, req.content_length
    ):
        if not _is_file(part):
            continue
        if received is not None:
            raise InvalidRequest('The form has more than one file; send one.')
        received = await _receive(part.stream, file, limit)
    if received is None:
        raise InvalidRequest(
            'The form has no file; send an image in a file field (curl -F image=@FILE).'
        )
    return received


def _check_length(length: int | None, limit: int, *, overhead: int = 0) -> None:
    """Raise `UploadTooLarge` if a body is announced that cannot be accepted."""
    if length is not None and length > limit + overhead:
        raise too_large(limit, length)


def _is_file(part: Any) -> bool:
    """Return whether a part of a form has a file name, in whatever encoding."""
    try:
        return part.filename is not None
    except UnicodeDecodeError:
        return True


async def _receive(chunks: AsyncIterable[bytes], file: AsyncFile, limit: int) -> int:
    """Write the chunks to the file; return their length.

    PERF: in large blocks, since each write runs in a thread.
    """
    received = 0
    block = bytearray()
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise too_large(limit)
        block += chunk
        if len(block) >= _BLOCK_SIZE:
            await file.write(bytes(block))
            block.clear()
    if block:
        await file.write(bytes(block))
    return received


async def discard_body(req: falcon.asgi.Request) -> None:
    """Read and discard a body, unless the client waits for `100 Continue`.

    Many clients read no response before they have sent the whole request.
    """
    if (req.get_header('Expect') or '').lower() != '100-continue':
        async for _ in req.stream:
            pass


def too_large(limit: int, length: int | None = None) -> UploadTooLarge:
    """Return the error for an upload of more than `limit` bytes, or of `length`."""
    if length is None:
        return UploadTooLarge(
            f'The upload is larger than the limit of {_in_units(limit)}.'
        )
    return UploadTooLarge(
        f'The upload has {_in_units(length)}; the limit is {_in_units(limit)}.'
    )


def _in_units(length: int) -> str:
    """Return a length in bytes or, rounded up, in MiB."""
    if length < MIB:
        return f'{length} bytes'
    return f'{math.ceil(length * 100 / MIB) / 100:g} MiB'


class GuardedBody:
    """An ASGI `receive` that raises for a body that is slow, incomplete or endless.

    Falcon's own stream treats a disconnect as the end of the body.
    """

    def __init__(self, receive: Receive, limit: int, timeout: float) -> None:
        self._receive = receive
        self._limit = limit
        self._timeout = timeout
        self._started: float | None = None
        self._received = 0
        self._ended = False

    async def receive(self) -> Event:
        """Return the next event.

        Raises `BodyTimeout`, `UploadTooLarge`, or `InvalidRequest` for a disconnect.
        """
        if self._ended:
            return await self._receive()
        if self._started is None:
            self._started = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds_left(self._started)):
                event = await self._receive()
        except TimeoutError:
            raise BodyTimeout('The request body did not arrive in time.') from None
        if event['type'] == 'http.disconnect':
            raise InvalidRequest('The client disconnected before the end of its body.')
        self._received += len(event.get('body', b''))
        if self._received > self._limit + FORM_OVERHEAD:
            raise too_large(self._limit)
        self._ended = not event.get('more_body', False)
        return event

    def _seconds_left(self, started: float) -> float:
        allowed = self._timeout + self._received / MIN_RATE
        return min(self._timeout, started + allowed - time.monotonic())
