"""Offers to upgrade a connection, on servers that then lose the framing."""

from __future__ import annotations

from typing import Any

from .asgi_types import Send
from .record import Record


def close_after_upgrade(record: Record, send: Send) -> Send:
    """Return an ASGI `send` that ends the connection after an offer to upgrade it.

    For plain uvicorn, which takes the body of such a request for the next request
    (https://github.com/Kludex/uvicorn/issues/2722). `asgilook serve` keeps the framing,
    and the app does not see the offer.
    """
    offers = (
        b'upgrade' in record.headers
        and b'upgrade' in record.headers.get(b'connection', b'').lower()
    )
    if not offers and record.method != 'CONNECT':
        return send

    async def send_and_close(message: Any) -> None:
        if message['type'] == 'http.response.start':
            headers = [*message['headers'], (b'connection', b'close')]
            message = {**message, 'headers': headers}
        await send(message)

    return send_and_close
