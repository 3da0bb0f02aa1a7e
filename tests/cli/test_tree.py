from __future__ import annotations

import os
from pathlib import Path

import pytest

from asgilook.cli import tree
from asgilook.errors import InvalidRequest, UploadTooLarge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two files, in which the tests put more."""
    (tmp_path / 'b').mkdir()
    for name in ('b/2', 'b/1', 'a', 'c'):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def walk(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in tree.walk(str(folder))]


def test_walk_is_in_order(folder: Path) -> None:
    assert walk(folder) == ['a', 'c', 'b/1', 'b/2']


def test_walk_leaves_out_what_is_hidden(folder: Path) -> None:
    (folder / '.git').mkdir()
    (folder / '.git' / 'a').touch()
    (folder / 'b' / '.3').touch()
    assert walk(folder) == ['a', 'c', 'b/1', 'b/2']


def test_walk_follows_links_to_files_only(folder: Path) -> None:
    (folder / 'folder').symlink_to(folder)
    (folder / 'file').symlink_to(folder / 'a')
    assert walk(folder) == ['a', 'c', 'file', 'b/1', 'b/2']


def test_walk_tells_of_unreadable_folders(tmp_path: Path) -> None:
    told: list[OSError] = []
    assert list(tree.walk(str(tmp_path / 'none'), told.append)) == []
    assert [(ex.filename, ex.strerror) for ex in told] == [
        (str(tmp_path / 'none'), 'No such file or directory')
    ]


def test_read_up_to_the_limit(folder: Path) -> None:
    path = str(folder / 'b' / '1')
    assert tree.read(path, 3) == b'b/1'
    with pytest.raises(UploadTooLarge, match='may have 2 bytes at most'):
        tree.read(path, 2)


def test_read_pipe_without_a_writer(folder: Path) -> None:
    os.mkfifo(folder / 'pipe')
    with pytest.raises(InvalidRequest, match='not a regular file'):
        tree.read(str(folder / 'pipe'), 9)


@pytest.mark.parametrize('path', ['/dev/zero', '/'])
def test_read_what_is_no_file(path: str) -> None:
    with pytest.raises((InvalidRequest, IsADirectoryError)):
        tree.read(path, 9)


def test_read_empty_file(folder: Path) -> None:
    (folder / 'a').write_bytes(b'')
    with pytest.raises(InvalidRequest, match='is empty'):
        tree.read(str(folder / 'a'), 9)


def test_read_file_that_has_more_than_it_says() -> None:
    with pytest.raises(InvalidRequest, match='changed while'):
        tree.read('/proc/self/status', 9)


def test_read_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tree.read(str(tmp_path / 'none'), 9)
