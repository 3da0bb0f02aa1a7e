"""Events for the tests: valid ones, and those in a stream."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from typing import Any

from asgilook.events.stream import EventStream

from .servers import HOST, until


class ReceivedEvent:
    """An event of a stream; without a name, it only sets the client's last event id."""

    def __init__(self, block: str) -> None:
        fields = dict(line.split(': ', 1) for line in block.splitlines())
        self.name = fields.get('event')
        self.id = fields['id']
        self.data = json.loads(fields['data']) if self.name else None

    def __eq__(self, other: object) -> bool:
        return (self.name, self.data) == other

    def __repr__(self) -> str:
        return f'{self.name} {self.data} {self.id}'


def parse_stream(text: bytes) -> list[ReceivedEvent]:
    blocks = text.decode().split('\n\n')
    return [ReceivedEvent(block) for block in blocks if 'id: ' in block]


async def read_stream(stream: EventStream) -> list[ReceivedEvent]:
    """Return the events of the next block that has any."""
    data = b''
    while not data:
        data = (await anext(stream)).serialize()
    return parse_stream(data)


def image_json(number: int, width: int = 512, height: int = 256) -> dict[str, Any]:
    """Return the JSON of an image."""
    image_id = f'0a0b0c0d-0000-4000-8000-{number:012x}'
    halves = [(width >> k, height >> k) for k in range(1, 3)]
    return {
        'id': image_id,
        'image': f'/images/{image_id}.jpeg',
        'modified': 'Sun, 09 Sep 2001 01:46:40 GMT',
        'size': [width, height],
        'thumbnails': [f'/thumbnails/{image_id}/{w}x{h}.jpeg' for w, h in halves],
    }


class Subscriber(threading.Thread):
    """Reads the stream of a real server to its end."""

    def __init__(self, port: int, last_event_id: str | None = None) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        headers = {'Last-Event-ID': last_event_id} if last_event_id else {}
        self._connection.request('GET', '/events', headers=headers)
        self._response = self._connection.getresponse()
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        with contextlib.closing(self._connection), self._response as response:
            for line in response:
                self.lines.append(line.decode().strip())

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait for so many lines with `text`."""
        until(lambda: sum(text in line for line in self.lines) >= count)

    def last_id(self) -> str:
        return [line for line in self.lines if line.startswith('id: ')][-1][4:]
