from __future__ import annotations

import os
from pathlib import Path

import pytest

from asgilook.errors import ImageNotFound, StorageUnavailable
from asgilook.storage.folder import FolderStorage

from ..conftest import logged

FIRST = '00000000-0000-4000-8000-000000000001'


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    storage = FolderStorage(str(tmp_path))
    storage.start()
    return storage


def test_usable_folder(storage: FolderStorage) -> None:
    assert storage.is_usable()


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    assert not FolderStorage(str(tmp_path / 'file')).is_usable()


def test_unreadable_file(
    storage: FolderStorage,
    tmp_path: Path,
    permissions: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / FIRST
    path.write_bytes(b'content')
    path.chmod(0)
    with pytest.raises(StorageUnavailable):
        storage.open(FIRST)
    (entry,) = storage.entries()
    assert (entry.length, entry.error) == (7, 'Permission denied (EACCES)')
    assert logged(caplog) == [
        f'WARNING image file {path}: Permission denied (EACCES); requests for it fail'
    ]
    path.chmod(0o600)
    with storage.open(FIRST) as file:
        assert file.read() == b'content'
    (entry,) = storage.entries()
    assert entry.error == ''


def test_failing_folder_is_logged(
    storage: FolderStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = tmp_path.rename(tmp_path.with_name('away'))
    with pytest.raises(StorageUnavailable):
        storage.create()
    with pytest.raises(StorageUnavailable):
        list(storage.entries())
    away.rename(tmp_path)
    new = storage.create()
    new.publish(FIRST)
    new.close()
    assert [entry.image_id for entry in storage.entries()] == [FIRST]
    prefix = f'WARNING storage folder {tmp_path}: '
    assert [line.removeprefix(prefix) for line in logged(caplog)] == [
        'No such file or directory (ENOENT); uploads are rejected',
        'No such file or directory (ENOENT); images cannot be listed',
        'uploads are accepted again',
        'images can be listed again',
    ]


def test_folder_without_images(storage: FolderStorage) -> None:
    with pytest.raises(ImageNotFound):
        storage.open(FIRST)
    assert os.listdir(storage.local.path) == []
