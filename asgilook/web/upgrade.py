"""Offers to upgrade a connection, on servers that lose their framing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Send = Callable[[Any], Awaitable[None]]


def close_after_upgrade(scope: dict[str, Any], send: Send) -> Send:
    """Return an ASGI `send` that ends the connection after an offer to upgrade it.

    For plain uvicorn, which takes the body of such a request for the next request
    (https://github.com/Kludex/uvicorn/issues/2722). `asgilook serve` keeps the framing,
    and the app does not see the offer.
    """
    if scope['method'] != 'CONNECT' and not _is_offer(scope['headers']):
        return send

    async def send_and_close(message: Any) -> None:
        if message['type'] == 'http.response.start':
            headers = [*message['headers'], (b'connection', b'close')]
            message = {**message, 'headers': headers}
        await send(message)

    return send_and_close


def _is_offer(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    # PERF: nearly all requests end at the first test.
    return any(name == b'upgrade' for name, _ in headers) and any(
        name == b'connection' and b'upgrade' in value.lower() for name, value in headers
    )
