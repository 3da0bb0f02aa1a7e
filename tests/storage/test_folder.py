from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgilook.storage.folder import FolderStorage


@pytest.fixture
def statvfs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that changes what the file system says of itself."""

    def change(**fields: int) -> None:
        real = os.statvfs('/')
        names = [name for name in dir(real) if name.startswith('f_')]
        values = {name: getattr(real, name) for name in names} | fields
        status = type('Status', (), values)
        monkeypatch.setattr(os, 'statvfs', lambda path: status)

    return change


def test_usable_folder(tmp_path: Path) -> None:
    assert FolderStorage(str(tmp_path)).is_usable()


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    assert not FolderStorage(str(tmp_path / 'file')).is_usable()


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def access(path: str, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, 'access', access)
    assert not FolderStorage(str(tmp_path)).is_usable()
    assert asked == [(f'{tmp_path}/.', os.R_OK | os.W_OK | os.X_OK)]


@pytest.mark.parametrize(
    ('fields', 'usable'),
    [
        ({'f_bavail': 256, 'f_frsize': 4096}, True),
        ({'f_bavail': 255, 'f_frsize': 4096}, False),
        ({'f_bavail': 0}, False),
        ({'f_favail': 1, 'f_files': 100}, True),
        ({'f_favail': 0, 'f_files': 100}, False),
        ({'f_favail': 0, 'f_files': 0}, True),
    ],
)
def test_full_storage(
    tmp_path: Path,
    statvfs: Callable[..., None],
    fields: dict[str, int],
    usable: bool,
) -> None:
    statvfs(**fields)
    assert FolderStorage(str(tmp_path)).is_usable() is usable


def test_storage_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> Any:
        raise OSError

    monkeypatch.setattr(os, 'statvfs', fail)
    assert not FolderStorage(str(tmp_path)).is_usable()
