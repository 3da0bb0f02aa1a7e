"""The head of an HTTP/1.1 response, as it is sent."""

from __future__ import annotations

import enum
import http
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .asgi_types import Scope, SharedHeaders

_INVALID_NAME = re.compile(rb"[^!#$%&'*+.^_`|~0-9a-z-]")
_INVALID_VALUE = re.compile(rb'[\0-\x08\x0a-\x1f\x7f]')

_STATUS_LINES = {
    status.value: f'HTTP/1.1 {status.value} {status.phrase}\r\n'.encode()
    for status in http.HTTPStatus
}

# Statuses of responses without content (RFC 9110, section 6.4.1).
_NO_CONTENT = frozenset({204, 304})


class Framing(enum.Enum):
    """How a client finds the end of the content (RFC 9112, section 6)."""

    NO_CONTENT = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


# PERF: an attribute of an Enum costs more than a global.
NO_CONTENT, LENGTH, CHUNKED, CLOSE = Framing


class Head(NamedTuple):
    """An encoded head.

    Attributes:
        data: the head as it is sent.
        framing: how the content is delimited.
        length: size of the content in bytes, 0 if it is not known.
        keep_alive: whether the connection stays open after the response.
    """

    data: bytes
    framing: Framing
    length: int
    keep_alive: bool


def encode_head(
    scope: Scope,
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    default_headers: list[tuple[bytes, bytes]],
    keep_alive: bool,
) -> Head:
    """Encode a head, with the headers that delimit the content.

    Args:
        scope: the request.
        status: one of `http.HTTPStatus`.
        headers: names in lower case, and values.
        default_headers: those of every response.
        keep_alive: whether the connection may stay open.

    Raises ValueError if a header is malformed.
    """
    if isinstance(headers, SharedHeaders):
        block = headers.block
        if block.encoded is None:
            block.encoded = _encode(block.headers)
        encoded, length, closes = block.encoded
        own = [*default_headers, *headers.own]
    else:
        encoded, length, closes = _encode(headers)
        own = default_headers
    if closes:
        keep_alive = False
    end = b''
    if status in _NO_CONTENT or scope['method'] == 'HEAD':
        framing = NO_CONTENT
    elif length is not None:
        framing = LENGTH
    elif scope['http_version'] == '1.0':
        framing, keep_alive = CLOSE, False
    else:
        framing, end = CHUNKED, b'transfer-encoding: chunked\r\n'
    end += b'\r\n' if keep_alive else b'connection: close\r\n\r\n'
    lines = [_encode_header(name, value) for name, value in own]
    data = b''.join([_STATUS_LINES[status], *lines, encoded, end])
    return Head(data, framing, length or 0, keep_alive)


def _encode(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[bytes, int | None, bool]:
    """Return the lines, Content-Length, and whether there is `Connection: close`."""
    lines = []
    length = None
    closes = False
    for name, value in headers:
        if name == b'connection':  # only ever `close`
            closes = True
            continue
        lines.append(_encode_header(name, value))
        if name == b'content-length':
            length = int(value)
    return b''.join(lines), length, closes


# PERF: most headers are those of earlier responses. Each is validated once.
@lru_cache(4096)
def _encode_header(name: bytes, value: bytes) -> bytes:
    if _INVALID_NAME.search(name) or _INVALID_VALUE.search(value):
        raise ValueError(f'Invalid response header: {name!r}: {value!r}')
    return b'%s: %s\r\n' % (name, value)
