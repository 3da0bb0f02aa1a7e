"""From one storage and index to another.

Object stores are moto and SeaweedFS; PostgreSQL is a real one.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import re
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgilook.cli import places
from asgilook.cli.bulk import Progress
from asgilook.cli.main import main
from asgilook.cli.migrate import Migration, migrate
from asgilook.cli.places import Place, open_place
from asgilook.config import Config, ConfigError
from asgilook.errors import StorageUnavailable
from asgilook.models import Image

from .. import samples
from ..conftest import place

Captured = pytest.CaptureFixture[str]

SUMMARY = re.compile(
    r'copied and verified (\d+), already present (\d+), rejected (\d+)\n'
)
COUNT = 5


def image_id(number: int) -> str:
    return f'0a0b0c0d-0000-4000-8000-{number:012x}'


@pytest.fixture
def source(tmp_path: Path) -> Config:
    """Return the settings of a folder with some images."""
    config = Config({})
    config.storage_path = str(tmp_path / 'source')
    for number in range(1, COUNT + 1):
        place(config, samples.photo(64 + number, 96, number), number)
    return config


@pytest.fixture(
    params=['folder', 'folder-sqlite', 'moto-sqlite', 'seaweedfs-postgresql']
)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    storage, _, index = request.param.partition('-')
    config = Config({})
    config.storage_path = str(tmp_path / 'target')
    if storage != 'folder':
        config.storage_url = request.getfixturevalue(f'{storage}_bucket')
    if index:
        config.database_url = request.getfixturevalue(index)
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Config:
    config = Config({})
    config.storage_path = str(tmp_path / 'target')
    return config


def url(config: Config) -> str:
    return config.storage_url or f'file://{config.storage_path}'


def stored(config: Config, number: int) -> bytes:
    return Path(config.storage_path, image_id(number)).read_bytes()


async def content(config: Config) -> list[tuple[Image, str]]:
    """Return the list of all images, with a hash of each."""

    def digest(image: Image) -> str:
        with there.storage.open(image.image_id) as file:
            return hashlib.sha256(file.read()).hexdigest()

    async with open_place(config) as there:
        return [(i, digest(i)) async for page in there.pages() for i in page]


async def move(
    source: Config, target: Config, capsys: Captured
) -> tuple[int, list[int]]:
    """Import as the command does; return its exit code and its summary."""
    code = await migrate_in_a_thread(target, url(source), source.database_url)
    (found,) = SUMMARY.findall(capsys.readouterr().out)
    return code, [int(number) for number in found]


async def migrate_in_a_thread(*args: Any) -> int:
    """Only the main thread may handle signals: here nobody sends any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.SelectorEventLoop, 'add_signal_handler', lambda *_: None)
        return await asyncio.to_thread(migrate, *args)


async def test_there_and_back(
    source: Config, target: Config, tmp_path: Path, capsys: Captured
) -> None:
    assert await move(source, target, capsys) == (0, [COUNT, 0, 0])
    assert len(await content(source)) == COUNT
    assert await content(target) == await content(source)
    back = Config({})
    back.storage_path = str(tmp_path / 'back')
    assert await move(target, back, capsys) == (0, [COUNT, 0, 0])
    assert await content(back) == await content(source)
    times = [os.stat(entry).st_mtime for entry in os.scandir(back.storage_path)]
    assert sorted(times) == [10**9 + number for number in range(1, COUNT + 1)]


async def test_second_run_copies_what_is_new(
    source: Config, target: Config, capsys: Captured
) -> None:
    await move(source, target, capsys)
    place(source, samples.photo(99, 99), COUNT + 1)
    assert await move(source, target, capsys) == (0, [1, COUNT, 0])
    assert await content(target) == await content(source)


async def test_copy_that_was_not_yet_listed(
    source: Config, target: Config, capsys: Captured
) -> None:
    """As a run that is killed between the two leaves it."""
    body = stored(source, 1)
    async with open_place(target) as there:
        new = there.storage.create()
        new.file.write(body)
        new.publish(image_id(1), (10**9 + 1) * 10**9)
        new.close()
    code, (copied, present, rejected) = await move(source, target, capsys)
    assert (code, copied + present, rejected) == (0, COUNT, 0)
    assert await content(target) == await content(source)


async def test_many_pages(
    source: Config,
    folder: Config,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    assert await move(source, folder, capsys) == (0, [COUNT, 0, 0])
    assert await content(folder) == await content(source)


async def test_new_index_for_the_same_files(
    source: Config, tmp_path: Path, capsys: Captured
) -> None:
    target = Config({})
    target.storage_path = source.storage_path
    target.database_url = f'sqlite://{tmp_path}/index.db'
    inodes = {entry.name: entry.inode() for entry in os.scandir(source.storage_path)}
    assert await move(source, target, capsys) == (0, [COUNT, 0, 0])
    assert await content(target) == await content(source)
    assert inodes == {
        entry.name: entry.inode() for entry in os.scandir(source.storage_path)
    }


async def test_another_image_of_that_id_stays(
    source: Config, folder: Config, photo: bytes, capsys: Captured
) -> None:
    place(folder, photo, 2)
    assert await migrate_in_a_thread(folder, url(source), None) == 1
    output = capsys.readouterr()
    assert f'{image_id(2)}: another image with this id already exists\n' in output.err
    assert (
        output.out
        == f'copied and verified {COUNT - 1}, already present 0, rejected 1\n'
    )
    assert stored(folder, 2) == photo


async def test_another_object_of_that_id_stays(
    source: Config, bucket: str, sqlite: str, tmp_path: Path, capsys: Captured
) -> None:
    target = Config({})
    target.storage_path = str(tmp_path / 'target')
    target.storage_url, target.database_url = bucket, sqlite
    async with open_place(target) as there:
        new = there.storage.create()
        new.file.write(b'theirs')
        new.publish(image_id(2))
        new.close()
    assert await migrate_in_a_thread(target, url(source), None) == 1
    said = capsys.readouterr().err
    assert f'{image_id(2)}: the target has another file with this id\n' in said
    listed = [image.image_id for image, _ in await content(target)]
    assert listed == [image_id(number) for number in range(1, COUNT + 1) if number != 2]


async def test_listed_images_that_cannot_be_copied(
    source: Config, sqlite: str, folder: Config, capsys: Captured
) -> None:
    source.database_url = sqlite
    (Path(source.storage_path) / image_id(2)).unlink()
    async with open_place(source) as there:
        await there.index.add(Image(image_id(1), (65, 96), 7, 10**18))
        await there.index.add(Image(image_id(2), (66, 96), 7, 10**18))
    assert await migrate_in_a_thread(folder, url(source), sqlite) == 1
    said = capsys.readouterr().err.splitlines()
    assert f'{image_id(1)}: the file does not have the listed size of 7 bytes' in said
    assert f'{image_id(2)}: is listed, but its file is missing' in said
    assert os.listdir(folder.storage_path) == []


@pytest.fixture
async def listed(source: Config, sqlite: str) -> Config:
    """Return the settings of the folder with a database that lists its images."""
    source.database_url = sqlite
    async with open_place(source) as there:
        for number in range(1, COUNT + 1):
            size, length = (64 + number, 96), len(stored(source, number))
            await there.index.add(Image(image_id(number), size, length, number))
    return source


async def test_files_that_cannot_be_read(
    listed: Config, folder: Config, capsys: Captured, permissions: None
) -> None:
    """They are rejected, and the others are copied."""
    Path(listed.storage_path, image_id(1)).chmod(0)
    broken = Path(listed.storage_path, image_id(2))
    broken.unlink()
    broken.symlink_to('/proc/self/mem')
    reasons = {1: 'Permission denied (EACCES)', 2: 'Input/output error (EIO)'}
    for copied, present in ((COUNT - 2, 0), (0, COUNT - 2)):
        code = await migrate_in_a_thread(folder, url(listed), listed.database_url)
        output = capsys.readouterr()
        assert code == 1
        for number, reason in reasons.items():
            line = f'{image_id(number)}: the file cannot be read: {reason}'
            assert line in output.err.splitlines()
        assert output.out == (
            f'copied and verified {copied}, already present {present}, rejected 2\n'
        )
    assert len(os.listdir(folder.storage_path)) == COUNT - 2


def replace_by_a_file(origin: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the folder of a storage by a file."""
    path = Path(origin.storage.local.path)
    path.rename(path.with_name('elsewhere'))
    path.touch()


def exhaust_files(origin: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a storage have no more file descriptors."""

    def fail(image_id: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(origin.storage, 'open', fail)


def disconnect(origin: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a storage fail as an object store does."""

    def fail(image_id: str) -> None:
        raise StorageUnavailable('The storage is unavailable.')

    monkeypatch.setattr(origin.storage, 'open', fail)


@pytest.mark.parametrize('fail', [replace_by_a_file, exhaust_files, disconnect])
async def test_source_that_fails_in_between(
    listed: Config,
    folder: Config,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[Place, pytest.MonkeyPatch], None],
) -> None:
    """The run ends, as no image can be read."""
    async with open_place(listed) as origin, open_place(folder) as goal:
        with closing(Progress(None, io.StringIO())) as progress:
            migration = Migration(origin, goal, progress, in_place=False)
            fail(origin, monkeypatch)
            await migration.run()
    assert str(migration.failure) == 'The storage is unavailable.'
    assert migration.copied == migration.rejected == 0


async def test_database_that_is_down(
    source: Config, folder: Config, capsys: Captured
) -> None:
    down = 'postgresql://127.0.0.1:1/images'
    for one, other in ((source, folder), (folder, source)):
        one.database_url, other.database_url = down, None
        assert await migrate_in_a_thread(folder, url(source), source.database_url) == 1
        output = capsys.readouterr()
        assert output.out == 'copied and verified 0, already present 0, rejected 0\n'
        assert 'asgilook: The database is unavailable.' in output.err


async def test_storage_that_fails_in_between(
    source: Config, folder: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies in progress are completed, and no more are started."""

    def full() -> None:
        raise StorageUnavailable('not now')

    async with open_place(source) as origin, open_place(folder) as goal:
        with closing(Progress(None, io.StringIO())) as progress:
            migration = Migration(origin, goal, progress, in_place=False)
            monkeypatch.setattr(goal.storage, 'create', full)
            await migration.run()
    assert str(migration.failure) == 'not now'
    assert migration.copied == migration.rejected == 0


async def test_stop_in_between(
    source: Config, folder: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 1)
    async with open_place(source) as origin, open_place(folder) as goal:
        with closing(Progress(None, io.StringIO())) as progress:
            migration = Migration(origin, goal, progress, in_place=False)
            monkeypatch.setattr(
                progress, 'advance', lambda: migration.stop(signal.SIGTERM)
            )
            await migration.run()
    assert migration.copied == 1
    assert migration.signal == signal.SIGTERM
    assert len(os.listdir(folder.storage_path)) == 1


def settings(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', config.storage_path)


def test_command(
    source: Config,
    folder: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    settings(monkeypatch, folder)
    assert main(['import', '--from-storage', url(source)]) == 0
    assert SUMMARY.fullmatch(capsys.readouterr().out)
    assert asyncio.run(content(folder)) == asyncio.run(content(source))


def test_command_is_interrupted(
    source: Config,
    folder: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    settings(monkeypatch, folder)
    original = Migration.run

    async def interrupted(migration: Migration) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while not migration.signal:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await original(migration)

    monkeypatch.setattr(Migration, 'run', interrupted)
    assert main(['import', '--from-storage', url(source)]) == 130
    assert capsys.readouterr().err.endswith(
        'asgilook: interrupted; run it again to resume\n'
    )
    monkeypatch.setattr(Migration, 'run', original)
    assert main(['import', '--from-storage', url(source)]) == 0
    assert asyncio.run(content(folder)) == asyncio.run(content(source))


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'either a FOLDER or --from-storage'),
        (['x', '--from-storage', 'file:///x'], 'either a FOLDER or --from-storage'),
        (['x', '--from-database', 'sqlite:////x'], 'requires --from-storage'),
        (['--from-storage', 'ftp://x'], "--from-storage='ftp://x': must be"),
        (['--from-storage', 'file:///no/such'], '/no/such: No such file or directory'),
        (['--from-storage', 's3://bucket'], 'add --from-database'),
        (
            ['--from-storage', 'file:///x', '--from-database', 'y:'],
            "--from-database='y:",
        ),
    ],
)
def test_wrong_arguments(
    folder: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    argv: list[str],
    message: str,
) -> None:
    settings(monkeypatch, folder)
    assert main(['import', *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not os.path.exists('/no/such')


def test_source_is_the_target(source: Config) -> None:
    with pytest.raises(ConfigError, match='source and target are the same'):
        migrate(source, f'file://{source.storage_path}/../source', None)
