"""The contract of every storage; object stores are moto and SeaweedFS."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asgilook.errors import ImageExists, ImageNotFound
from asgilook.storage.base import Storage
from asgilook.storage.folder import FolderStorage
from asgilook.storage.s3 import ObjectStorage

Make = Callable[[], Storage]

FIRST, SECOND = (str(uuid.UUID(int=number)) for number in (1, 2))


@pytest.fixture(params=['folder', 'moto', 'seaweedfs'])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that makes a storage, as each process does."""
    if request.param == 'folder':
        return lambda: FolderStorage(str(tmp_path / 'images'), replaces=False)
    bucket = request.getfixturevalue(f'{request.param}_bucket')
    return lambda: ObjectStorage(bucket, str(tmp_path / 'work'))


@pytest.fixture
def storage(make: Make) -> Iterator[Storage]:
    storage = make()
    storage.start()
    yield storage
    storage.stop()


def put(storage: Storage, image_id: str, content: bytes) -> tuple[int, int]:
    new = storage.create()
    try:
        new.file.write(content)
        return new.publish(image_id)
    finally:
        new.close()


def get(storage: Storage, image_id: str) -> bytes:
    with storage.open(image_id) as file:
        return file.read()


def names(storage: Storage) -> list[str]:
    return sorted(entry.image_id for entry in storage.entries())


def test_published_file_can_be_read(storage: Storage, make: Make) -> None:
    other = make()
    other.start()
    length, modified_ns = put(storage, FIRST, b'content')
    assert length == 7
    assert modified_ns > 10**18
    for reader in (storage, other):
        assert get(reader, FIRST) == b'content'
        assert names(reader) == [FIRST]
    other.stop()


def test_file_is_hidden_until_it_is_published(storage: Storage) -> None:
    new = storage.create()
    new.file.write(b'content')
    assert names(storage) == []
    with pytest.raises(ImageNotFound):
        get(storage, FIRST)
    new.publish(FIRST)
    assert names(storage) == [FIRST]
    new.close()
    assert get(storage, FIRST) == b'content'


def test_file_that_is_closed_leaves_nothing(storage: Storage) -> None:
    new = storage.create()
    new.file.write(b'content')
    new.close()
    assert names(storage) == []


def test_file_can_be_written_as_pillow_does(storage: Storage) -> None:
    """To the file descriptor, and from the beginning once more."""
    new = storage.create()
    new.file.write(b'CONTENT')
    new.file.seek(0)
    new.file.flush()
    os.write(new.file.fileno(), b'con')
    new.file.seek(0, os.SEEK_END)
    new.file.write(b'!')
    assert new.publish(FIRST)[0] == 8
    new.close()
    assert get(storage, FIRST) == b'conTENT!'


def test_uploads_keep_their_order(storage: Storage) -> None:
    stamps = [put(storage, str(uuid.UUID(int=n)), b'x')[1] for n in range(5)]
    assert stamps == sorted(set(stamps))


def test_upload_of_a_time_long_ago(storage: Storage) -> None:
    new = storage.create()
    new.file.write(b'content')
    assert new.publish(FIRST, 123_456_789) == (7, 123_456_789)
    new.close()


def test_repeated_id_is_rejected(storage: Storage) -> None:
    put(storage, FIRST, b'content')
    new = storage.create()
    new.file.write(b'another')
    with pytest.raises(ImageExists):
        new.publish(FIRST)
    new.close()
    assert get(storage, FIRST) == b'content'
    assert names(storage) == [FIRST]
    storage.remove(FIRST)
    put(storage, FIRST, b'another')
    assert get(storage, FIRST) == b'another'


def test_entries_have_their_lengths(storage: Storage) -> None:
    for number in range(3):
        put(storage, str(uuid.UUID(int=number)), b'x' * (number + 1))
    found = {entry.image_id: entry.length for entry in storage.entries()}
    assert found == {str(uuid.UUID(int=number)): number + 1 for number in range(3)}


@pytest.mark.parametrize(
    ('start', 'size'), [(0, 4), (3, 10), (0, -1), (999_990, 20), (1_000_000, 5)]
)
def test_part_of_a_file(storage: Storage, start: int, size: int) -> None:
    content = os.urandom(1_000_000)
    put(storage, FIRST, content)
    with storage.open(FIRST) as file:
        assert file.seek(start) == start
        part = file.read(size)
        assert part == (content[start:] if size < 0 else content[start : start + size])
        assert file.tell() == start + len(part)
        file.seek(0)
        assert file.read(9) == content[:9]


def test_file_in_blocks(storage: Storage) -> None:
    content = os.urandom(3_000_001)
    put(storage, FIRST, content)
    with storage.open(FIRST) as file:
        blocks = list(iter(lambda: file.read(1_000_000), b''))
    assert b''.join(blocks) == content


def test_missing_file(storage: Storage) -> None:
    put(storage, FIRST, b'content')
    with pytest.raises(ImageNotFound):
        get(storage, SECOND)
    with pytest.raises(ImageNotFound):
        storage.remove(SECOND)
    assert get(storage, FIRST) == b'content'


def test_removed_file(storage: Storage, make: Make) -> None:
    put(storage, FIRST, b'first')
    put(storage, SECOND, b'second')
    other = make()
    other.start()
    other.remove(FIRST)
    for process in (storage, other):
        with pytest.raises(ImageNotFound):
            get(process, FIRST)
        with pytest.raises(ImageNotFound):
            process.remove(FIRST)
        assert names(process) == [SECOND]
    other.stop()


def test_restart_keeps_files(make: Make) -> None:
    storage = make()
    for number in range(3):
        storage.start()
        put(storage, str(uuid.UUID(int=number)), b'content')
        assert len(names(storage)) == number + 1
        storage.stop()


def test_storage_is_usable(storage: Storage) -> None:
    assert storage.is_usable()


def test_many_threads(storage: Storage) -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(30)]

    def use(image_id: str) -> bytes:
        put(storage, image_id, image_id.encode())
        return get(storage, image_id)

    with ThreadPoolExecutor(10) as executor:
        assert list(executor.map(use, ids)) == [name.encode() for name in ids]
        assert names(storage) == ids
        list(executor.map(storage.remove, ids))
    assert names(storage) == []
