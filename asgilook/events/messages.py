"""Events, as MessagePack messages in Redis and as blocks of a stream."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import falcon
import msgpack

from ..models import UUID, Image

_VERSION = 1
MAX_MESSAGE_SIZE = 64 * 1024

# The longest side of a JPEG, in pixels.
_MAX_SIDE = 65535

_EVENT_ID = re.compile('[0-9a-f]{1,32}-[0-9a-f]{1,32}')


class InvalidMessage(ValueError):
    """A message that no worker of this version has sent."""


class Event(NamedTuple):
    """An event: `name` is `image`, `deleted` or `reload`; `data` is sent as JSON."""

    event_id: str
    name: str
    data: Any

    def to_message(self) -> bytes:
        """Serialize it for other workers."""
        return bytes(msgpack.packb([_VERSION, *self]))

    def to_block(self) -> bytes:
        """Serialize it as a Server-Sent Event."""
        data = json.dumps(self.data)
        return f'event: {self.name}\nid: {self.event_id}\ndata: {data}\n\n'.encode()


def parse(message: bytes) -> Event:
    """Parse the message of any worker; raises `InvalidMessage`.

    Anyone who can publish in Redis can send a message, but only exact events pass.
    """
    if len(message) > MAX_MESSAGE_SIZE:
        raise InvalidMessage('too large')
    try:
        version, *values = msgpack.unpackb(message)
        event = Event(*values)
        is_valid = (
            version == _VERSION
            and _EVENT_ID.fullmatch(event.event_id)
            and _VALIDATORS[event.name](event.data)
        )
    except Exception as ex:  # garbage raises many types
        raise InvalidMessage(repr(ex)) from ex
    if not is_valid:
        raise InvalidMessage('not an event')
    return event


def _is_image(data: Any) -> bool:
    """Return whether `data` is exactly the JSON of an image."""
    image_id, modified = data['id'], data['modified']
    size, thumbnails = data['size'], data['thumbnails']
    if not UUID.fullmatch(image_id) or not all(map(_is_side, size)):
        return False
    width, height = size
    sizes = Image(image_id, (width, height), 0, 0).reductions(1)[: len(thumbnails)]
    return bool(
        data
        == {
            'id': image_id,
            'image': f'/images/{image_id}.jpeg',
            'modified': falcon.dt_to_http(falcon.http_date_to_dt(modified)),
            'size': [width, height],
            'thumbnails': [f'/thumbnails/{image_id}/{w}x{h}.jpeg' for w, h in sizes],
        }
    )


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_SIDE


def _is_deletion(data: Any) -> bool:
    return bool(UUID.fullmatch(data['id'])) and data.keys() == {'id'}


def _is_empty(data: Any) -> bool:
    return bool(data == {})


_VALIDATORS = {'image': _is_image, 'deleted': _is_deletion, 'reload': _is_empty}
