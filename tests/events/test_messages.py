from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from asgilook.events.messages import MAX_MESSAGE_SIZE, Event, InvalidMessage, parse

from ..event_streams import image_json

ID = '12ab-34cd'
IMAGE = image_json(1)
IMAGE_ID = IMAGE['id']


def nested(depth: int) -> bytes:
    """Return arrays in arrays, which `msgpack.packb` does not make so deep."""
    return b'\x91' * depth + b'\xc0'


def huge() -> Any:
    thumbnails = [f'/thumbnails/{IMAGE_ID}/1x1.jpeg'] * 2000
    return {**IMAGE, 'thumbnails': thumbnails}


@pytest.mark.parametrize(
    ('name', 'data'),
    [
        ('image', IMAGE),
        ('image', image_json(2, 65535, 4)),
        ('image', {**IMAGE, 'thumbnails': []}),
        ('deleted', {'id': IMAGE_ID}),
        ('reload', {}),
    ],
)
def test_event_survives(name: str, data: Any) -> None:
    event = Event(ID, name, data)
    assert parse(event.to_message()) == event


GARBAGE = {
    'empty': b'',
    'text': b'garbage',
    'nil': msgpack.packb(None),
    'number': msgpack.packb(7),
    'nan': msgpack.packb(float('nan')),
    'short': msgpack.packb([1, ID]),
    'long': msgpack.packb([1, ID, 'reload', {}, {}]),
    'map': msgpack.packb({'version': 1}),
    'truncated': Event(ID, 'image', IMAGE).to_message()[:-1],
    'trailing bytes': Event(ID, 'image', IMAGE).to_message() + b'\x00',
    'nested': nested(100),
    'deeply nested': nested(60_000),
    'large': Event(ID, 'image', huge()).to_message(),
    'length bomb': b'\xdd\xff\xff\xff\xff',
    'extension type': msgpack.packb([1, ID, 'reload', msgpack.ExtType(5, b'x')]),
}
VERSIONS = [2, None, '1', [1], float('nan')]
EVENT_IDS = [
    7,
    None,
    b'12ab-34cd',
    '',
    '12ab',
    'x-y',
    f'{ID}\n',
    f'{ID}\ndata: x',
    [ID],
]
NAMES = ['message', '', None, 7, b'image', ['image'], {'image': 1}, float('nan')]
DELETIONS = [
    None,
    {},
    [],
    IMAGE_ID,
    [IMAGE_ID],
    {'id': None},
    {'id': 7},
    {'id': IMAGE_ID.upper()},
    {'id': IMAGE_ID.replace('-', '')},
    {'id': f'{IMAGE_ID}\n'},
    {'id': IMAGE_ID, 'more': 1},
    {'ID': IMAGE_ID},
]
RELOADS: list[Any] = [None, [], 0, '', False, {'id': IMAGE_ID}, float('nan')]


def altered(**values: Any) -> dict[str, Any]:
    return {**IMAGE, **values}


IMAGES: list[Any] = [
    None,
    {},
    [],
    7,
    float('nan'),
    'x' * 1000,
    {key: value for key, value in IMAGE.items() if key != 'size'},
    {key: value for key, value in IMAGE.items() if key != 'image'},
    altered(more=1),
    altered(id=None),
    altered(id=IMAGE_ID.upper()),
    altered(id='0a0b0c0d-0000-4000-8000-000000000002'),
    altered(image=None),
    altered(image='https://example.com/1.jpeg'),
    altered(modified=None),
    altered(modified=1e9),
    altered(modified='yesterday'),
    altered(modified='Mon, 09 Sep 2001 01:46:40 GMT'),
    altered(modified='Sun, 9 Sep 2001 01:46:40 GMT'),
    altered(modified='Sun, 09 Sep 2001 01:46:40 GMT '),
    altered(size=None),
    altered(size=[512]),
    altered(size=[512, 256, 1]),
    altered(size=[512, 0]),
    altered(size=[512, -256]),
    altered(size=[512.0, 256.0]),
    altered(size=[512, float('nan')]),
    altered(size=[True, True], thumbnails=[]),
    altered(size=[2**63, 2**63], thumbnails=[]),
    altered(size=[65536, 1], thumbnails=[]),
    altered(size='12'),
    altered(thumbnails=None),
    altered(thumbnails=7),
    altered(thumbnails=['x']),
    altered(thumbnails=[IMAGE['thumbnails'][1]]),
    altered(thumbnails=[None]),
    altered(thumbnails={}),
    altered(thumbnails=IMAGE['thumbnails'] * 100),
]


@pytest.mark.parametrize(
    'message',
    [
        *(pytest.param(message, id=name) for name, message in GARBAGE.items()),
        *(msgpack.packb([version, ID, 'reload', {}]) for version in VERSIONS),
        *(msgpack.packb([1, event_id, 'reload', {}]) for event_id in EVENT_IDS),
        *(msgpack.packb([1, ID, name, IMAGE]) for name in NAMES),
        *(msgpack.packb([1, ID, 'deleted', data]) for data in DELETIONS),
        *(msgpack.packb([1, ID, 'reload', data]) for data in RELOADS),
        *(msgpack.packb([1, ID, 'image', data]) for data in IMAGES),
    ],
)
def test_anything_else_is_invalid(message: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse(message)


def test_large_message_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(msgpack, 'unpackb')
    with pytest.raises(InvalidMessage, match='too large'):
        parse(bytes(MAX_MESSAGE_SIZE + 1))
    with pytest.raises(InvalidMessage, match='unpackb'):
        parse(bytes(MAX_MESSAGE_SIZE))


def test_block_has_one_line_of_data() -> None:
    block = Event('1-a', 'image', {'id': 'a\nb\r'}).to_block()
    head, _, data = block.partition(b'data: ')
    assert head == b'event: image\nid: 1-a\n'
    assert data.endswith(b'\n\n')
    assert data.count(b'\n') == 2
    assert json.loads(data) == {'id': 'a\nb\r'}
