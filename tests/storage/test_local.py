from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asgilook.errors import StorageFull, StorageUnavailable
from asgilook.storage import local as local_module
from asgilook.storage.atomic import TEMPORARY
from asgilook.storage.local import LocalFolder, describe

from ..conftest import logged

FIRST, SECOND = (f'00000000-0000-4000-8000-00000000000{number}' for number in (1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    folder = LocalFolder(str(tmp_path / 'images'))
    assert folder.prepare()
    return folder


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the new lines of the log."""

    def lines() -> list[str]:
        found = logged(caplog)
        caplog.clear()
        return found

    return lines


@pytest.fixture
def statvfs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that changes what the file system reports."""
    real = os.statvfs('/')

    def change(**fields: int) -> None:
        names = [name for name in dir(real) if name.startswith('f_')]
        values = {name: getattr(real, name) for name in names} | fields
        status = type('Status', (), values)
        monkeypatch.setattr(os, 'statvfs', lambda path: status)

    return change


def fail_to_write(folder: LocalFolder, code: int) -> None:
    with pytest.raises((StorageFull, StorageUnavailable)), folder.writing():
        raise OSError(code, 'message', f'{folder.path}/{TEMPORARY}x')


def fail_to_read(folder: LocalFolder, image_id: str) -> None:
    with pytest.raises(StorageUnavailable), folder.reading(image_id):
        raise OSError(errno.EIO, 'message')


def test_description_of_an_error() -> None:
    error = PermissionError(errno.EACCES, 'message', '/a/path')
    assert describe(error) == 'Permission denied (EACCES)'
    assert describe(OSError('just a text')) == 'just a text'
    assert describe(OSError(9999, 'message')) == 'Unknown error 9999 (9999)'


# Creating the folder


def test_prepare_removes_leftovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    (tmp_path / f'{TEMPORARY}1').touch()
    folder = LocalFolder(str(tmp_path))
    assert folder.prepare()
    assert os.listdir(tmp_path) == []
    assert logged(caplog) == ['INFO removed 1 temporary files of interrupted uploads']


def test_prepare_is_repeated_until_it_succeeds(
    tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    parent = tmp_path / 'parent'
    parent.touch()
    folder = LocalFolder(f'{parent}/images')
    for _ in range(2):
        assert not folder.prepare()
        assert not folder.probe()
    prefix = f'WARNING storage folder {parent}/images: '
    assert lines() == [f'{prefix}Not a directory (ENOTDIR); uploads are rejected']
    parent.unlink()
    assert folder.probe()
    assert lines() == [f'{prefix}uploads are accepted again']


def test_folder_that_disappears_is_not_created_again(folder: LocalFolder) -> None:
    os.rmdir(folder.path)
    assert folder.prepare()
    assert not folder.probe()
    assert not os.path.exists(folder.path)
    os.mkdir(folder.path)
    assert folder.probe()


# Writing


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        (errno.EROFS, 'Read-only file system (EROFS)'),
        (errno.ENOSPC, 'No space left on device (ENOSPC)'),
    ],
)
def test_failing_writes_are_logged_once(
    folder: LocalFolder, lines: Callable[[], list[str]], code: int, reason: str
) -> None:
    for _ in range(2):
        for _ in range(2):
            fail_to_write(folder, code)
        prefix = f'WARNING storage folder {folder.path}: '
        assert lines() == [f'{prefix}{reason}; uploads are rejected']
        for _ in range(2):
            folder.written()
        assert lines() == [f'{prefix}uploads are accepted again']


def test_probe_ends_a_failure(
    folder: LocalFolder, lines: Callable[[], list[str]]
) -> None:
    fail_to_write(folder, errno.EACCES)
    assert folder.probe()
    assert len(lines()) == 2


@pytest.mark.parametrize(
    ('code', 'free', 'is_over'),
    [
        (errno.ENOSPC, local_module.MIN_FREE_AGAIN - 1, False),
        (errno.ENOSPC, local_module.MIN_FREE_AGAIN, True),
        (errno.EDQUOT, local_module.MIN_FREE_AGAIN, False),
    ],
)
def test_probe_of_a_folder_that_was_full(
    folder: LocalFolder,
    lines: Callable[[], list[str]],
    statvfs: Callable[..., None],
    code: int,
    free: int,
    is_over: bool,
) -> None:
    fail_to_write(folder, code)
    statvfs(f_frsize=1, f_bavail=free)
    assert folder.probe()
    assert len(lines()) == 1 + is_over


@pytest.mark.parametrize(
    ('fields', 'reason'),
    [
        ({'f_flag': os.ST_RDONLY}, 'Read-only file system (EROFS)'),
        ({'f_flag': 0}, 'Permission denied (EACCES)'),
    ],
)
def test_probe_of_a_folder_that_is_not_writable(
    folder: LocalFolder,
    lines: Callable[[], list[str]],
    statvfs: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, int],
    reason: str,
) -> None:
    asked: list[tuple[str, int]] = []

    def access(path: str, mode: int) -> bool:
        asked.append((path, mode))
        return False

    statvfs(**fields)
    monkeypatch.setattr(os, 'access', access)
    assert not folder.probe()
    assert asked == [(f'{folder.path}/.', os.R_OK | os.W_OK | os.X_OK)]
    (line,) = lines()
    assert line.endswith(f': {reason}; uploads are rejected')


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
def test_probe_of_a_full_folder(
    folder: LocalFolder,
    statvfs: Callable[..., None],
    fields: dict[str, int],
    usable: bool,
) -> None:
    statvfs(**fields)
    assert folder.probe() is usable


# Listing and reading


def test_failing_list_is_logged_once(
    folder: LocalFolder, lines: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        with pytest.raises(StorageUnavailable), folder.listing():
            raise OSError(errno.EIO, 'message')
    for _ in range(2):
        with folder.listing():
            pass
    prefix = f'WARNING storage folder {folder.path}: '
    assert lines() == [
        f'{prefix}Input/output error (EIO); images cannot be listed',
        f'{prefix}images can be listed again',
    ]


def test_unreadable_image_is_logged_once(
    folder: LocalFolder, lines: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        fail_to_read(folder, FIRST)
    folder.was_read(SECOND)
    for _ in range(2):
        folder.was_read(FIRST)
    prefix = f'WARNING image file {folder.path}/{FIRST}'
    assert lines() == [
        f'{prefix}: Input/output error (EIO); requests for it fail',
        f'{prefix} can be read again',
    ]


def test_damaged_image_is_logged_once(
    folder: LocalFolder, lines: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        folder.damaged(FIRST, 'no scan')
        folder.was_read(FIRST)
    for _ in range(2):
        folder.intact(FIRST)
    prefix = f'WARNING stored image {FIRST}'
    assert lines() == [
        f'{prefix} is damaged: no scan; its thumbnails fail',
        f'{prefix} can be decoded again',
    ]


def test_removed_image_is_forgotten(
    folder: LocalFolder, lines: Callable[[], list[str]]
) -> None:
    folder.damaged(FIRST, 'no scan')
    fail_to_read(folder, FIRST)
    folder.forget(FIRST)
    folder.intact(FIRST)
    assert len(lines()) == 2


def test_many_unreadable_images(
    folder: LocalFolder,
    lines: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest ones are forgotten, but not the failures of the folder."""
    monkeypatch.setattr(local_module, 'MAX_IMAGES', 3)
    fail_to_write(folder, errno.EIO)
    for number in range(5):
        fail_to_read(folder, str(number))
    assert len(lines()) == 6
    folder.written()
    assert len(lines()) == 1
    for number in range(5):
        folder.was_read(str(number))
    assert len(lines()) == 2


@pytest.mark.parametrize('code', [errno.EACCES, errno.EIO])
def test_probe_where_no_image_can_be_read(
    folder: LocalFolder, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = Path(folder.path, FIRST)
    path.write_bytes(b'content')
    folder.unreadable = str(path)

    def fail(*args: object) -> None:
        raise OSError(code, 'message')

    with monkeypatch.context() as patch:
        patch.setattr(local_module, 'open', fail, raising=False)
        assert not folder.probe()
    assert folder.probe()
    path.unlink()
    assert folder.probe()
