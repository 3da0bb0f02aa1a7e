from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import os
import resource
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import inotify_simple
import pytest
from falcon.testing import TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import InvalidRequest, StorageUnavailable
from asgilook.imaging import jpeg
from asgilook.index import folder as folder_module
from asgilook.index import watcher as watcher_module
from asgilook.index.folder import FolderIndex
from asgilook.models import Image
from asgilook.storage.atomic import TEMPORARY
from asgilook.storage.local import LocalFolder

from .. import samples
from ..conftest import Json, Upload, logged

HOUR_NS = 3600 * 10**9

MAX_QUEUED_EVENTS = int(Path('/proc/sys/fs/inotify/max_queued_events').read_text())


def image_id(number: int) -> str:
    return str(uuid.UUID(int=number))


class Folder:
    """A storage folder with its index; image N has the id N, and is from the Nth ns."""

    def __init__(self, path: Path, local: LocalFolder | None = None) -> None:
        self.path = path
        self.index = FolderIndex(str(path), local)

    def add(self, *numbers: int, content: bytes | None = None) -> None:
        """Add images whose width is their number."""
        for number in numbers:
            file = self.path / image_id(number)
            file.write_bytes(
                content or samples.encode(_PLAIN.resize((number, 8)), 'JPEG')
            )
            os.utime(file, ns=(number, number))

    def age(self) -> None:
        """Let the last change be long ago."""
        old = self.path.stat().st_mtime_ns - HOUR_NS
        os.utime(self.path, ns=(old, old))

    async def list(self, limit: int = 99, after: int | None = None) -> list[int]:
        """Return the numbers of a page's images, checked against their sizes."""
        name = None if after is None else image_id(after)
        images = (await self.index.page(limit, name)).images
        numbers = [uuid.UUID(image.image_id).int for image in images]
        assert numbers == [image.size[0] for image in images]
        return numbers

    async def state(self) -> str | None:
        return await self.index.version()

    async def get(self, number: int) -> Image | None:
        return await self.index.get(image_id(number))


_PLAIN = samples.scene(8, 8)


@pytest.fixture
def scanned(tmp_path: Path) -> Folder:
    """Return a folder whose index has only the folder's time to go by."""
    return Folder(tmp_path)


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Folder]:
    """Return a folder whose index is started, and stop it at the end."""
    folder = Folder(path)
    await folder.index.start()
    yield folder
    await folder.index.stop()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Folder]:
    """Return a folder whose index hears of every change."""
    async with watching(tmp_path) as folder:
        yield folder


@pytest.fixture(params=['scanned', 'watched'])
async def folder(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Folder]:
    """Return a folder of either kind."""
    if request.param == 'watched':
        async with watching(tmp_path) as folder:
            yield folder
    else:
        yield Folder(tmp_path)


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every scan of a folder."""

    def listdir(path: str) -> list[str]:
        scans.append(path)
        return original(path)

    original = os.listdir
    scans: list[str] = []
    monkeypatch.setattr(os, 'listdir', listdir)
    return scans


# Image


def test_image_reductions() -> None:
    image = Image('', (1000, 700), 0, 0)
    assert image.reductions(64) == [(500, 350), (250, 175), (125, 87)]
    assert image.reductions(87)[-1] == (125, 87)
    assert image.reductions(88)[-1] == (250, 175)
    assert image.reductions(351) == []
    assert Image('', (1, 1), 0, 0).reductions(1) == []
    assert Image('', (3, 2), 0, 0).reductions(1) == [(1, 1)]


# Look-ups


async def test_get_before_any_list(folder: Folder) -> None:
    folder.add(3)
    image = await folder.get(3)
    assert image
    assert (image.size, image.modified_ns) == ((3, 8), 3)
    assert image.length == (folder.path / image_id(3)).stat().st_size
    assert await folder.list() == [3]


async def test_get_of_what_is_missing(folder: Folder) -> None:
    folder.add(3)
    assert await folder.get(4) is None
    assert await folder.list() == [3]


async def test_get_of_what_vanished(folder: Folder) -> None:
    folder.add(3, 4)
    assert await folder.list() == [3, 4]
    state = await folder.state()
    os.unlink(folder.path / image_id(3))
    assert await folder.get(3) is None
    assert await folder.state() != state
    assert await folder.list() == [4]


async def test_get_of_what_was_replaced(folder: Folder) -> None:
    folder.add(3)
    first = await folder.get(3)
    folder.add(3, content=samples.photo(30, 20))
    second = await folder.get(3)
    assert first
    assert second
    assert (first.size, second.size) == ((3, 8), (30, 20))


@pytest.mark.parametrize('content', [b'x', b'\xff\xd8\xff\xe0', samples.png(8, 8)])
async def test_get_of_what_is_no_image(folder: Folder, content: bytes) -> None:
    folder.add(3, 5)
    assert await folder.list() == [3, 5]
    folder.add(3, content=content)
    assert await folder.get(3) is None
    assert await folder.list() == [5]


async def test_get_of_a_folder(folder: Folder) -> None:
    (folder.path / image_id(3)).mkdir()
    assert await folder.get(3) is None
    assert await folder.list() == []


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_pipe_with_the_name_of_an_image(folder: Folder) -> None:
    """Opening it would wait for somebody to write into it."""
    os.mkfifo(folder.path / image_id(3))
    folder.add(4)
    assert await folder.get(3) is None
    assert await folder.list() == [4]


async def test_file_that_cannot_be_opened_is_not_missing(folder: Folder) -> None:
    folder.add(3, 4)
    await folder.index.get(image_id(4))
    folder.add(4, content=samples.photo(30, 20))
    with no_files_left():
        for number in (3, 4):
            with pytest.raises(StorageUnavailable):
                await folder.index.get(image_id(number))
        with pytest.raises(StorageUnavailable):
            await folder.index.page(9)
    page = await folder.index.page(9)
    assert len(page.images) == 2


async def test_file_that_cannot_be_opened_is_listed_later(folder: Folder) -> None:
    await folder.index.page(9)
    folder.add(3)
    with no_files_left(), pytest.raises(StorageUnavailable):
        await folder.index.page(9)
    page = await folder.index.page(9)
    assert [image.size for image in page.images] == [(3, 8)]


async def test_file_that_cannot_be_opened_after_a_scan(
    scanned: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned.add(3)
    scanned.age()

    def listdir(path: str) -> list[str]:
        names = original(path)
        exhausted.enter_context(no_files_left())
        return names

    original = os.listdir
    with contextlib.ExitStack() as exhausted, monkeypatch.context() as patch:
        patch.setattr(os, 'listdir', listdir)
        with pytest.raises(StorageUnavailable):
            await scanned.index.page(9)
    assert await scanned.list() == [3]


# Lists


async def test_list_is_in_order_of_age(folder: Folder) -> None:
    folder.add(5, 3, 9, 1)
    assert await folder.list() == [1, 3, 5, 9]
    folder.add(4)
    assert await folder.list() == [1, 3, 4, 5, 9]


async def test_list_of_equal_ages_is_in_order_of_id(folder: Folder) -> None:
    folder.add(5, 3, 4)
    for number in (3, 4, 5):
        os.utime(folder.path / image_id(number), ns=(1, 1))
    assert await folder.list() == [3, 4, 5]
    assert await folder.list(1, after=3) == [4]


async def test_list_by_pages(folder: Folder) -> None:
    folder.add(1, 2, 3, 4, 5)
    assert await folder.list(2) == [1, 2]
    assert await folder.list(2, after=2) == [3, 4]
    assert await folder.list(2, after=4) == [5]
    assert await folder.list(2, after=5) == []
    assert (await folder.index.page(5)).more is False
    assert (await folder.index.page(4)).more is True
    with pytest.raises(InvalidRequest):
        await folder.list(2, after=6)


async def test_list_of_the_newest(folder: Folder) -> None:
    folder.add(1, 2, 3, 4, 5)

    async def newest(limit: int, after: int | None = None) -> tuple[list[int], bool]:
        name = None if after is None else image_id(after)
        page = await folder.index.page(limit, name, newest=True)
        return [uuid.UUID(image.image_id).int for image in page.images], page.more

    assert await newest(9) == ([5, 4, 3, 2, 1], False)
    assert await newest(5) == ([5, 4, 3, 2, 1], False)
    assert await newest(2) == ([5, 4], True)
    assert await newest(2, after=4) == ([3, 2], True)
    assert await newest(2, after=3) == ([2, 1], False)
    assert await newest(2, after=2) == ([1], False)
    assert await newest(2, after=1) == ([], False)
    with pytest.raises(InvalidRequest):
        await newest(2, after=6)


async def test_list_of_many(scanned: Folder, caplog: pytest.LogCaptureFixture) -> None:
    content = samples.photo(8, 8)
    first, count = 1, 2201
    for number in range(first, count + 1):
        path = scanned.path / image_id(number)
        path.write_bytes(content)
        os.utime(path, ns=(number, number))
    caplog.set_level('INFO')
    page = await scanned.index.page(count)
    assert (len(page.images), page.more) == (count, False)
    lines = ['INFO read 2000 of 2201 images', 'INFO read 2201 of 2201 images']
    assert logged(caplog) == lines
    for number in range(first, 201):
        (scanned.path / image_id(number)).unlink()
    page = await scanned.index.page(count)
    found = [uuid.UUID(image.image_id).int for image in page.images]
    assert found == list(range(201, count + 1))
    assert logged(caplog) == lines


async def test_list_of_an_unchanged_folder_is_no_scan(
    scanned: Folder, scans: list[str]
) -> None:
    scanned.add(3)
    scanned.age()
    for _ in range(3):
        assert await scanned.list() == [3]
    assert len(scans) == 1


class Clock:
    """Stands for the module `time`."""

    now = 0

    def time_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watcher_module, 'time', clock)
    return clock


async def test_list_of_a_folder_of_this_tick_is_a_scan(
    scanned: Folder, scans: list[str], clock: Clock
) -> None:
    """A change in the same tick of the clock leaves the folder's time as it was."""
    stamp = scanned.path.stat().st_mtime_ns
    clock.now = stamp + watcher_module.TICK_NS
    numbers = []
    for number in (3, 4, 5):
        scanned.add(number)
        os.utime(scanned.path, ns=(stamp, stamp))
        numbers.append(number)
        assert await scanned.list() == numbers
    os.unlink(scanned.path / image_id(4))
    os.utime(scanned.path, ns=(stamp, stamp))
    assert await scanned.list() == [3, 5]
    assert len(scans) == 4
    clock.now += 1
    for _ in range(3):
        assert await scanned.list() == [3, 5]
    assert len(scans) == 5


async def test_lists_at_a_time_share_a_scan(scanned: Folder, scans: list[str]) -> None:
    scanned.add(3)
    scanned.age()
    pages = await asyncio.gather(*(scanned.index.page(9) for _ in range(5)))
    assert [len(page.images) for page in pages] == [1] * 5
    assert len(scans) == 1


async def test_list_without_the_folder(folder: Folder) -> None:
    folder.add(3)
    assert await folder.list() == [3]
    away = folder.path.rename(folder.path.with_name('away'))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await folder.list()
        with pytest.raises(StorageUnavailable):
            await folder.get(3)
    away.rename(folder.path)
    assert await folder.list() == [3]
    assert await folder.get(3)


# Changes that inotify reports


async def test_watched_folder_is_scanned_once(
    watched: Folder, scans: list[str]
) -> None:
    for number in (3, 4, 5):
        watched.add(number)
        assert await watched.list() == list(range(3, number + 1))
    os.unlink(watched.path / image_id(4))
    assert await watched.list() == await watched.list() == [3, 5]
    assert scans == []


async def test_watched_folder_with_more_changes_than_can_be_kept(
    watched: Folder,
) -> None:
    watched.add(3)
    await watched.list()
    path = watched.path / '.asgilook-x'
    for number in range(MAX_QUEUED_EVENTS):
        path.touch() if number % 2 else path.unlink(missing_ok=True)
    watched.add(4, 5)
    os.unlink(watched.path / image_id(3))
    assert await watched.list() == [4, 5]
    watched.add(6)
    assert await watched.list() == [4, 5, 6]


async def test_watched_folder_that_is_made_anew(
    watched: Folder, scans: list[str]
) -> None:
    watched.add(3)
    assert await watched.list() == [3]
    shutil.rmtree(watched.path)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await watched.list()
    watched.path.mkdir()
    for number in (4, 5, 6):
        watched.add(number)
        assert await watched.list() == list(range(4, number + 1))
    assert len(scans) == 1


async def test_watched_folder_that_was_exchanged(
    watched: Folder, scans: list[str]
) -> None:
    watched.add(3)
    assert await watched.list() == [3]
    watched.path.rename(watched.path.with_name(f'{watched.path.name}-away'))
    watched.path.mkdir()
    for number in (4, 5, 6):
        watched.add(number)
        assert await watched.list() == list(range(4, number + 1))
    assert len(scans) == 1


async def test_exchanged_folder_of_the_same_time(folder: Folder) -> None:
    folder.add(3)
    folder.age()
    assert await folder.list() == [3]
    stamp = folder.path.stat().st_mtime_ns
    copy = folder.path.with_name(f'{folder.path.name}-copy')
    shutil.copytree(folder.path, copy)
    (copy / image_id(3)).rename(copy / image_id(4))
    (copy / image_id(4)).write_bytes(samples.encode(_PLAIN.resize((4, 8)), 'JPEG'))
    folder.path.rename(folder.path.with_name(f'{folder.path.name}-away'))
    copy.rename(folder.path)
    os.utime(folder.path, ns=(stamp, stamp))
    assert await folder.list() == [4]


async def test_time_of_a_file_that_is_changed(watched: Folder) -> None:
    watched.add(3, 4)
    assert await watched.list() == [3, 4]
    os.utime(watched.path / image_id(3), ns=(9, 9))
    assert await watched.list() == [4, 3]
    assert await watched.state() == await Folder(watched.path).state()


async def test_scan_finds_changed_files(scanned: Folder) -> None:
    """As after a restore, or where inotify has lost events."""
    scanned.add(3, 4)
    scanned.age()
    assert await scanned.list() == [3, 4]
    os.utime(scanned.path / image_id(3), ns=(9, 9))
    scanned.add(5)
    assert await scanned.list() == [4, 5, 3]


async def test_changes_faster_than_reads(
    watched: Folder, monkeypatch: pytest.MonkeyPatch, scans: list[str]
) -> None:
    def stat(path: Any, **kwargs: Any) -> os.stat_result:
        if path == str(watched.path):
            (watched.path / '.busy').write_bytes(b'x')
        return original(path, **kwargs)

    watched.add(3)
    assert await watched.list() == [3]
    original = os.stat
    with monkeypatch.context() as patch:
        patch.setattr(os, 'stat', stat)
        watched.add(4)
        assert await watched.list() == [3, 4]
    assert scans == []
    assert await watched.list() == [3, 4]


async def test_folder_that_disappears_before_it_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, 'No such file or directory')

    with monkeypatch.context() as patch:
        patch.setattr(inotify_simple.INotify, 'add_watch', fail)
        folder = Folder(tmp_path)
        await folder.index.start()
        with pytest.raises(StorageUnavailable):
            await folder.list()
    folder.add(3)
    assert await folder.list() == [3]
    await folder.index.stop()


async def test_index_starts_without_its_folder(tmp_path: Path) -> None:
    async with watching(tmp_path / 'images') as folder:
        with pytest.raises(StorageUnavailable):
            await folder.list()
        folder.path.mkdir()
        for number in (3, 4):
            folder.add(number)
            assert await folder.list() == list(range(3, number + 1))


async def test_index_without_inotify(
    scanned: Folder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EMFILE, 'Too many open files')

    monkeypatch.setattr(inotify_simple, 'INotify', fail)
    await scanned.index.start()
    for number in (3, 4):
        scanned.add(number)
        assert await scanned.list() == list(range(3, number + 1))
    await scanned.index.stop()
    (message,) = logged(caplog)
    assert 'no inotify' in message


async def test_index_that_was_stopped(watched: Folder) -> None:
    watched.add(3)
    for number in (4, 5):
        assert await watched.list() == list(range(3, number))
        await watched.index.stop()
        watched.add(number)
        assert await watched.list() == list(range(3, number + 1))
        await watched.index.start()


# Files that can't be read


@pytest.fixture
def retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each list try unreadable files again."""
    monkeypatch.setattr(folder_module, 'RETRY_INTERVAL', 0)


async def test_unreadable_files(
    folder: Folder,
    permissions: None,
    retries: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are missing in the list, but not forgotten."""
    folder.add(3, 4, 5)
    for number in (3, 4):
        (folder.path / image_id(number)).chmod(0)
    folder.age()
    for _ in range(2):
        assert await folder.list() == [5]
    with pytest.raises(StorageUnavailable):
        await folder.get(3)
    (line,) = logged(caplog)
    assert line == (
        'WARNING 2 of 3 image files in the storage folder cannot be read, such as '
        f'{folder.path}/{image_id(3)}: Permission denied (EACCES); they are not '
        'listed: check their owner and permissions'
    )
    caplog.clear()
    (folder.path / image_id(3)).chmod(0o600)
    assert await folder.list() == [3, 5]
    assert logged(caplog) == []
    os.unlink(folder.path / image_id(4))
    assert await folder.list() == [3, 5]
    assert logged(caplog) == [
        'WARNING all image files in the storage folder can be read again'
    ]


async def test_permissions_that_change_while_watched(
    watched: Folder, permissions: None, scans: list[str]
) -> None:
    watched.add(3, 4)
    states = []
    for mode in (0o600, 0, 0o600):
        (watched.path / image_id(3)).chmod(mode)
        assert await watched.list() == ([3, 4] if mode else [4])
        assert await watched.state() == await Folder(watched.path).state()
        states.append(await watched.state())
    assert states[0] == states[2] != states[1]
    assert len(scans) == 3  # those of the others


class Monotonic:
    """Stands for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_unreadable_files_are_tried_again_after_a_while(
    scanned: Folder, permissions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the permission of a folder above changes, which causes no event."""
    clock = Monotonic()
    monkeypatch.setattr(folder_module, 'time', clock)
    scanned.add(3)
    (scanned.path / image_id(3)).chmod(0)
    scanned.age()
    for _ in range(2):
        assert await scanned.list() == []
    (scanned.path / image_id(3)).chmod(0o600)
    assert await scanned.list() == []
    clock.now += folder_module.RETRY_INTERVAL
    assert await scanned.list() == [3]


async def test_storage_is_unusable_if_nothing_can_be_read(
    tmp_path: Path, permissions: None, retries: None
) -> None:
    local = LocalFolder(str(tmp_path))
    folder = Folder(tmp_path, local=local)
    folder.add(3)
    (tmp_path / image_id(3)).chmod(0)
    assert await folder.list() == []
    assert not local.probe()
    folder.add(4)
    assert await folder.list() == [4]
    assert local.probe()
    os.unlink(tmp_path / image_id(4))
    assert await folder.list() == []
    assert not local.probe()
    (tmp_path / image_id(3)).chmod(0o600)
    assert local.probe()
    assert await folder.list() == [3]


async def test_upload_makes_the_storage_usable(
    tmp_path: Path, permissions: None
) -> None:
    local = LocalFolder(str(tmp_path))
    folder = Folder(tmp_path, local=local)
    folder.add(3, 4)
    image = await folder.get(4)
    assert image
    (tmp_path / image_id(3)).chmod(0)
    os.unlink(tmp_path / image_id(4))
    assert await folder.list() == []
    assert not local.probe()
    folder.add(4)
    await folder.index.add(image)
    assert local.probe()


async def test_file_of_a_broken_disk(
    folder: Folder, retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: object) -> None:
        raise OSError(errno.EIO, 'Input/output error')

    with monkeypatch.context() as patch:
        patch.setattr(jpeg, 'read_size', fail)
        folder.add(3)
        assert await folder.list() == []
        with pytest.raises(StorageUnavailable):
            await folder.get(3)
    assert await folder.list() == [3]


# Times that datetime can't represent

# A file system that can.
SHM = '/dev/shm' if os.path.isdir('/dev/shm') else None


async def test_extreme_times(permissions: None) -> None:
    with tempfile.TemporaryDirectory(dir=SHM) as name:
        folder = Folder(Path(name))
        folder.add(3, 4, 5)
        seconds = 400_000_000_000
        os.utime(folder.path / image_id(3), (0, seconds))
        os.utime(folder.path / image_id(5), (0, -seconds))
        for listed in (await folder.list(), await Folder(folder.path).list()):
            assert listed == [5, 4, 3]
        for number in (3, 5):
            assert await folder.get(number)
            (folder.path / image_id(number)).unlink()
        assert await folder.list() == [4]


# Files that are none of ours

FOREIGN = {
    '.DS_Store': b'x',
    'README': b'text',
    'photo.jpeg': samples.photo(8, 8),
    f'{image_id(7)}.jpeg': samples.photo(8, 8),
    '0A0B0C0D-0000-4000-8000-0123456789AB': samples.photo(8, 8),
    image_id(7).replace('-', ''): samples.photo(8, 8),
    image_id(8): b'',
    image_id(9): b'garbage',
    image_id(10): samples.photo(8, 8)[:30],
    image_id(11): samples.png(8, 8),
}


async def test_list_ignores_foreign_files(
    scanned: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    scanned.add(3)
    (scanned.path / 'folder').mkdir()
    (scanned.path / f'{TEMPORARY}x').touch()
    for name, content in FOREIGN.items():
        (scanned.path / name).write_bytes(content)
    for number in (3, 4, 5):
        scanned.add(number)
        assert await scanned.list() == list(range(3, number + 1))
    (message,) = logged(caplog)
    assert f'ignoring {len(FOREIGN) + 1} files' in message


async def test_list_warns_of_more_foreign_files(
    scanned: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ('first', 'second'):
        (scanned.path / name).touch()
        assert await scanned.list() == []
    messages = logged(caplog)
    assert [message.split()[-1] for message in messages] == ['first', 'second']


# The state


async def test_state_is_that_of_the_set(folder: Folder) -> None:
    states: dict[Any, str | None] = {}
    for numbers in ((), (3,), (3, 4), (3, 4, 5)):
        folder.add(*numbers)
        states[numbers] = await folder.state()
        assert states[numbers] == (await folder.index.page(1)).state
        assert await folder.index.count() == len(numbers)
    assert len(set(states.values())) == 4
    os.unlink(folder.path / image_id(5))
    assert await folder.state() == states[3, 4]
    other = Folder(folder.path)
    await other.get(4)
    assert await other.state() == await folder.state()


async def test_state_follows_a_replaced_image(folder: Folder) -> None:
    folder.add(3)
    state = await folder.state()
    os.utime(folder.path / image_id(3), ns=(30, 30))
    await folder.get(3)
    assert await folder.state() != state
    os.utime(folder.path / image_id(3), ns=(3, 3))
    await folder.get(3)
    assert await folder.state() == state


# Over HTTP: restarts, and two processes on one folder


TOKEN = {'Authorization': 'Bearer s3cret'}


@pytest.fixture
def other(config: Config) -> TestClient:
    """Return a client of another process on the folder of `client`."""
    config = copy.copy(config)
    config.api_token = 's3cret'
    return TestClient(create_app(config))


def test_restart_loses_nothing(
    config: Config, client: TestClient, upload: Upload
) -> None:
    images = [upload(samples.photo(200 + n, 150)) for n in range(2)]
    uris = [uri for image in images for uri in (image['image'], *image['thumbnails'])]
    before = {uri: client.simulate_get(uri) for uri in ('/images', *uris)}
    config.redis_host = None
    restarted = TestClient(create_app(config))
    for uri, expected in before.items():
        result = restarted.simulate_get(uri)
        assert result.content == expected.content
        assert result.headers['etag'] == expected.headers['etag']
    assert restarted.simulate_get('/images').json == images


def test_processes_see_each_others_uploads(
    client: TestClient, other: TestClient, photo: bytes
) -> None:
    images: list[Json] = []
    for number in range(4):
        writer, reader = (client, other) if number % 2 else (other, client)
        images.append(writer.simulate_post('/images', body=photo, headers=TOKEN).json)
        assert reader.simulate_get('/images').json == images
        for uri in (images[-1]['image'], *images[-1]['thumbnails']):
            assert reader.simulate_get(uri).status_code == 200


def test_processes_see_each_others_deletes(
    client: TestClient, other: TestClient, upload: Upload
) -> None:
    images = [upload() for _ in range(2)]
    uris = [uri for image in images for uri in (image['image'], *image['thumbnails'])]
    for uri in ('/images', *uris):
        for process in (client, other):
            assert process.simulate_get(uri).status_code == 200
    while images:
        gone = images.pop()
        assert other.simulate_delete(gone['image'], headers=TOKEN).status_code == 204
        for uri in (gone['image'], *gone['thumbnails']):
            for headers in ({}, {'If-None-Match': '*'}):
                result = client.simulate_get(uri, headers=headers)
                assert result.status_code == 404
        assert client.simulate_get('/images').json == images


def test_processes_see_changes_of_one_tick(
    config: Config, client: TestClient, other: TestClient, upload: Upload, clock: Clock
) -> None:
    images = [upload()]
    stamp = os.stat(config.storage_path).st_mtime_ns
    clock.now = stamp + watcher_module.TICK_NS
    for _ in range(3):
        os.utime(config.storage_path, ns=(stamp, stamp))
        assert other.simulate_get('/images').json == images
        images.append(upload())


async def test_change_that_could_not_be_read_is_not_forgotten(
    watched: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Any) -> None:
        raise OSError(errno.EMFILE, 'Too many open files')

    assert await watched.list() == []
    watched.add(3)
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, 'read_size', fail)
        with pytest.raises(StorageUnavailable):
            await watched.list()
    watched.add(4)
    assert await watched.list() == [3, 4]


async def test_upload_that_was_deleted_before_it_is_added(folder: Folder) -> None:
    folder.add(3)
    image = await folder.get(3)
    assert image is not None
    (folder.path / image_id(3)).unlink()
    folder.age()
    for _ in range(2):
        assert await folder.list() == []
        await folder.index.add(image)
