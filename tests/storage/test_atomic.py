from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest

from asgilook.errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)
from asgilook.storage import atomic


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.mark.parametrize(
    ('code', 'kind'),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, StorageUnavailable),
        (errno.EROFS, StorageUnavailable),
        (errno.ENOENT, StorageUnavailable),
        (errno.EMFILE, StorageUnavailable),
        (None, StorageUnavailable),
    ],
)
def test_storage_errors_have_names(code: int | None, kind: type[AsgilookError]) -> None:
    with pytest.raises(kind) as raised, atomic.storage_errors():
        raise OSError(code, '/a/path/of/the/service')
    assert '/' not in str(raised.value)


def test_storage_errors_leave_the_rest() -> None:
    with pytest.raises(ImageNotFound), atomic.storage_errors():
        raise ImageNotFound


def test_new_file_is_hidden_until_published(folder: str) -> None:
    new = atomic.NewFile(folder)
    new.file.write(b'content')
    (temporary,) = os.listdir(folder)
    assert temporary.startswith(atomic.TEMPORARY)
    published = new.publish('name')
    assert os.listdir(folder) == ['name']
    new.close()
    assert (Path(folder) / 'name').read_bytes() == b'content'
    status = os.stat(os.path.join(folder, 'name'))
    assert published == (len(b'content'), status.st_mtime_ns)


def test_new_files_keep_their_order(folder: str) -> None:
    stamps = []
    for number in range(5):
        new = atomic.NewFile(folder)
        stamps.append(new.publish(str(number))[1])
        new.close()
    assert stamps == sorted(set(stamps))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the functions of `os` that change files, as they are called.

    For `fsync`, with the kind of what is flushed.
    """
    steps: list[str] = []

    def spy(name: str, function: Any) -> None:
        def spied(target: Any, *args: Any, **options: Any) -> Any:
            kind = ''
            if name == 'fsync':
                is_folder = stat.S_ISDIR(os.fstat(target).st_mode)
                kind = ' folder' if is_folder else ' file'
            steps.append(name + kind)
            return function(target, *args, **options)

        monkeypatch.setattr(os, name, spied)

    for name in ('fsync', 'replace', 'unlink', 'utime'):
        spy(name, getattr(os, name))
    return steps


def test_new_file_is_flushed_before_it_is_named(folder: str, steps: list[str]) -> None:
    new = atomic.NewFile(folder)
    new.publish('name')
    new.close()
    assert steps == ['utime', 'fsync file', 'replace', 'fsync folder']


def test_new_file_replaces_an_older_one(folder: str) -> None:
    for content in (b'first', b'second'):
        new = atomic.NewFile(folder)
        new.file.write(content)
        new.publish('name')
        new.close()
    assert (Path(folder) / 'name').read_bytes() == b'second'
    assert os.listdir(folder) == ['name']


def test_new_file_that_replaces_nothing(folder: str) -> None:
    for content in (b'first', b'second'):
        new = atomic.NewFile(folder, replaces=False)
        new.file.write(content)
        with contextlib.suppress(ImageExists):
            new.publish('name')
        new.close()
    assert (Path(folder) / 'name').read_bytes() == b'first'
    assert os.listdir(folder) == ['name']


def fail(*args: str) -> NoReturn:
    raise OSError(errno.EIO, 'Input/output error')


def no_hard_links(*args: str) -> NoReturn:
    raise PermissionError(errno.EPERM, 'Operation not permitted')


@pytest.mark.parametrize('links', [True, False])
def test_exclusive_file_keeps_an_existing_one(
    folder: str, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, 'link', no_hard_links)
    for content in (b'first', b'second'):
        new = atomic.NewFile(folder)
        new.file.write(content)
        if content == b'first':
            assert new.publish('name', 5, exclusive=True) == (5, 5)
        else:
            with pytest.raises(ImageExists):
                new.publish('name', exclusive=True)
        new.close()
    assert (Path(folder) / 'name').read_bytes() == b'first'
    assert os.listdir(folder) == ['name']


def test_name_is_free_again_after_a_failed_rename(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = atomic.NewFile(folder, replaces=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'link', no_hard_links)
        patch.setattr(os, 'replace', fail)
        with pytest.raises(OSError, match='Input'):
            new.publish('name')
    new.close()
    assert os.listdir(folder) == []


def failing_fsync(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let folders fail to be flushed."""

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        original(fd)

    original = os.fsync
    monkeypatch.setattr(os, 'fsync', fsync)


def test_folder_that_cannot_be_flushed_keeps_no_new_file(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(folder) / 'older').write_bytes(b'older')
    failing_fsync(monkeypatch, errno.EIO)
    for name in ('name', 'older'):
        new = atomic.NewFile(folder)
        with pytest.raises(OSError, match='Input'):
            new.publish(name)
        new.close()
    assert os.listdir(folder) == ['older']
    atomic.remove(os.path.join(folder, 'older'))
    assert os.listdir(folder) == []


@pytest.mark.parametrize('code', [errno.EINVAL, errno.ENOTSUP])
def test_file_system_that_cannot_flush_folders(
    folder: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing_fsync(monkeypatch, code)
    new = atomic.NewFile(folder)
    new.publish('name')
    new.close()
    assert os.listdir(folder) == ['name']


def test_lock_that_fails_leaves_no_file(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.raises(OSError, match='Input'):
        atomic.NewFile(folder)
    assert os.listdir(folder) == []


def test_new_file_leaves_nothing_unless_published(folder: str) -> None:
    new = atomic.NewFile(folder)
    new.file.write(b'content')
    new.close()
    assert os.listdir(folder) == []


def test_new_file_that_somebody_removed(folder: str) -> None:
    new = atomic.NewFile(folder)
    os.unlink(new.file.name)
    new.close()
    assert new.file.closed


def test_new_file_swept_before_its_lock(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []

    def flock(file: Any, operation: int) -> None:
        if not swept:
            swept.append(file.name)
            os.unlink(file.name)
        original(file, operation)

    original = fcntl.flock
    monkeypatch.setattr(fcntl, 'flock', flock)
    new = atomic.NewFile(folder)
    assert new.file.name not in swept
    new.publish('name')
    new.close()
    assert os.listdir(folder) == ['name']


def test_sweep_removes_dead_temporaries_only(folder: str) -> None:
    for name in (
        f'{atomic.TEMPORARY}dead1',
        f'{atomic.TEMPORARY}dead2',
        'name',
        '.hidden',
    ):
        (Path(folder) / name).write_bytes(b'content')
    living = atomic.NewFile(folder)
    assert atomic.sweep(folder) == 2
    assert len(os.listdir(folder)) == 3
    living.publish('living')
    living.close()
    assert atomic.sweep(folder) == 0
    assert set(os.listdir(folder)) == {'name', '.hidden', 'living'}


def test_sweep_keeps_what_it_cannot_remove(folder: str) -> None:
    (Path(folder) / f'{atomic.TEMPORARY}backup').mkdir()
    (Path(folder) / f'{atomic.TEMPORARY}dead').touch()
    assert atomic.sweep(folder) == 1
    assert os.listdir(folder) == [f'{atomic.TEMPORARY}backup']


def test_sweep_beside_another_sweep(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'listdir', lambda folder: [f'{atomic.TEMPORARY}gone'])
    assert atomic.sweep(folder) == 0


def test_remove(folder: str) -> None:
    path = os.path.join(folder, 'name')
    Path(path).touch()
    atomic.remove(path)
    assert os.listdir(folder) == []
    with pytest.raises(ImageNotFound):
        atomic.remove(path)


def test_removal_is_flushed(folder: str, steps: list[str]) -> None:
    path = Path(folder, 'name')
    path.write_bytes(b'')
    atomic.remove(str(path))
    assert steps == ['unlink', 'fsync folder']
