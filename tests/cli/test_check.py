"""Orphans and missing files, in a folder and in buckets of moto and SeaweedFS."""

from __future__ import annotations

import asyncio
import copy
import errno
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from asgilook.cli import check as check_module
from asgilook.cli.check import Comparison, check
from asgilook.cli.main import main
from asgilook.cli.places import Place, open_place
from asgilook.config import Config
from asgilook.imaging import jpeg
from asgilook.models import Image
from asgilook.storage.previews import FOLDER, FolderPreviews

from ..conftest import files

Captured = pytest.CaptureFixture[str]

LISTED, ORPHAN, MISSING, CUT = (
    f'00000000-0000-4000-8000-00000000000{number}' for number in range(4)
)


@pytest.fixture(params=['folder', 'moto', 'seaweedfs'])
def place(request: pytest.FixtureRequest, config: Config, tmp_path: Path) -> Config:
    """Return settings with a database."""
    config.database_url = f'sqlite://{tmp_path}/index.db'
    if request.param != 'folder':
        config.storage_url = request.getfixturevalue(f'{request.param}_bucket')
    return config


def put(place: Place, image_id: str, content: bytes = b'content') -> None:
    new = place.storage.create()
    new.file.write(content)
    new.publish(image_id)
    new.close()


async def fill(config: Config, *without: str) -> None:
    """Make an image of each kind: listed, not listed, without file, of other length."""
    async with open_place(config) as place:
        for image_id in {LISTED, ORPHAN, CUT} - set(without):
            await asyncio.to_thread(put, place, image_id)
        for image_id in {LISTED, MISSING, CUT} - set(without):
            length = 8 if image_id == CUT else 7
            await place.index.add(Image(image_id, (64, 64), length, 10**18))


async def stored(config: Config) -> set[str]:
    async with open_place(config) as place:
        return {entry.image_id for entry in place.storage.entries()}


async def ask(config: Config, younger: float = 0, *, remove: bool = False) -> int:
    return await asyncio.to_thread(check, config, younger, remove=remove)


async def test_nothing_wrong(place: Config, capsys: Captured) -> None:
    await fill(place, ORPHAN, MISSING, CUT)
    assert await ask(place) == 0
    assert capsys.readouterr().out == (
        '1 images, 0 with a missing or wrong file, 0 unreadable files, '
        '0 files not listed, 0 of them removed\n'
    )


async def test_what_is_wrong_is_named(place: Config, capsys: Captured) -> None:
    await fill(place)
    assert await ask(place) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[:-1]) == [
        f'{ORPHAN} is not listed, 7 bytes',
        f'{MISSING} is listed, but its file is missing',
        f'{CUT} has 7 bytes, but is listed with 8',
    ]
    assert lines[-1].startswith(
        '3 images, 2 with a missing or wrong file, 0 unreadable files, 1 files'
    )
    assert await stored(place) == {LISTED, ORPHAN, CUT}


async def test_orphans_are_removed(place: Config, capsys: Captured) -> None:
    await fill(place, MISSING, CUT)
    assert await ask(place, remove=True) == 0
    assert '1 of them removed' in capsys.readouterr().out
    assert await stored(place) == {LISTED}
    assert await ask(place) == 0


async def test_young_files_are_passed_over(place: Config, capsys: Captured) -> None:
    await fill(place, MISSING, CUT)
    assert await ask(place, 3600, remove=True) == 0
    assert await stored(place) == {LISTED, ORPHAN}


async def test_file_of_an_old_image_is_young(config: Config, tmp_path: Path) -> None:
    """What an import puts here has the time of the image, but came just now."""
    config.database_url = f'sqlite://{tmp_path}/index.db'
    async with open_place(config) as place:
        new = place.storage.create()
        new.file.write(b'content')
        new.publish(ORPHAN, 10**18)
        new.close()
    assert await ask(config, 3600, remove=True) == 0
    assert await stored(config) == {ORPHAN}


class Racing(Comparison):
    """Lists an orphan, and removes a listed image, once the files are known."""

    def _collect(self, files: Any) -> None:
        super()._collect(files)
        asyncio.run_coroutine_threadsafe(self._race(), self.loop).result(10)

    async def _race(self) -> None:
        await self._place.index.add(Image(ORPHAN, (64, 64), 7, 10**18 + 1))
        await self._place.index.remove(LISTED)
        await asyncio.to_thread(self._place.storage.remove, LISTED)
        await asyncio.to_thread(put, self._place, CUT)
        await self._place.index.add(Image(CUT, (64, 64), 7, 10**18 + 2))

    async def run(self) -> None:
        self.loop = asyncio.get_running_loop()
        await super().run()


async def test_uploads_and_deletions_meanwhile(
    place: Config, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place, MISSING, CUT)
    monkeypatch.setattr(check_module, 'Comparison', Racing)
    assert await ask(place, remove=True) == 0
    assert capsys.readouterr().out.startswith(
        '2 images, 0 with a missing or wrong file, 0 unreadable files, 0 files'
    )
    assert await stored(place) == {ORPHAN, CUT}


async def test_database_that_is_down(config: Config, capsys: Captured) -> None:
    config.database_url = 'postgresql://127.0.0.1:1/images'
    assert await ask(config) == 1
    assert 'asgilook: The database is unavailable.' in capsys.readouterr().err


async def test_folder_without_a_database(config: Config, photo: bytes) -> None:
    """There a damaged file is one that is not listed."""
    Path(config.storage_path).mkdir()
    Path(config.storage_path, LISTED).write_bytes(photo)
    Path(config.storage_path, CUT).write_bytes(b'content')
    assert await ask(config) == 1
    assert await ask(config, remove=True) == 1
    assert files(config) == {LISTED, CUT}


@pytest.mark.parametrize('with_database', [False, True])
async def test_unreadable_files(
    config: Config,
    tmp_path: Path,
    photo: bytes,
    capsys: Captured,
    permissions: None,
    with_database: bool,
) -> None:
    """They are reported at any age, listed or not, and never removed."""
    if with_database:
        config.database_url = f'sqlite://{tmp_path}/index.db'
        await fill(config, ORPHAN, MISSING, CUT)
    else:
        Path(config.storage_path).mkdir()
        Path(config.storage_path, LISTED).write_bytes(photo)
    Path(config.storage_path, ORPHAN).write_bytes(photo)
    for image_id in (LISTED, ORPHAN):
        Path(config.storage_path, image_id).chmod(0)
    assert await ask(config, 3600, remove=with_database) == 1
    assert capsys.readouterr().out == (
        f'{LISTED} cannot be read: Permission denied (EACCES)\n'
        f'{ORPHAN} cannot be read: Permission denied (EACCES)\n'
        f'{int(with_database)} images, 0 with a missing or wrong file, '
        '2 unreadable files, 0 files not listed, 0 of them removed\n'
    )
    assert files(config) == {LISTED, ORPHAN}


async def test_file_of_a_broken_disk(
    config: Config, photo: bytes, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: object) -> None:
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(jpeg, 'read_size', fail)
    Path(config.storage_path, FOLDER).mkdir(parents=True)
    Path(config.storage_path, LISTED).write_bytes(photo)
    Path(config.storage_path, FOLDER, LISTED).touch()
    assert await ask(config, 3600, remove=True) == 1
    output = capsys.readouterr().out
    assert f'{LISTED} cannot be read: Input/output error (EIO)\n' in output
    assert '1 unreadable files, 0 files not listed' in output
    assert 'preview' not in output


@pytest.fixture(params=['folder', 'sqlite', 'moto', 'seaweedfs'])
def any_place(request: pytest.FixtureRequest, config: Config, tmp_path: Path) -> Config:
    """Return settings with a database, or without."""
    if request.param != 'folder':
        config.database_url = f'sqlite://{tmp_path}/index.db'
    if request.param in ('moto', 'seaweedfs'):
        config.storage_url = request.getfixturevalue(f'{request.param}_bucket')
    return config


async def preview_ids(config: Config) -> set[str]:
    async with open_place(config) as place:
        return set(place.storage.previews.image_ids())


async def test_previews_without_an_image(
    any_place: Config, photo: bytes, capsys: Captured
) -> None:
    async with open_place(any_place) as place:
        await asyncio.to_thread(put, place, LISTED, photo)
        await place.index.add(Image(LISTED, (512, 256), len(photo), 10**18))
        for image_id in (LISTED, ORPHAN, MISSING):
            await asyncio.to_thread(place.storage.previews.write, image_id, b'preview')
    assert await ask(any_place) == 1
    output = capsys.readouterr().out
    assert f'{ORPHAN} has a preview, but no image\n' in output
    assert output.endswith('2 previews without an image, 0 removed\n')
    assert await ask(any_place, remove=True) == 0
    assert capsys.readouterr().out.endswith('2 previews without an image, 2 removed\n')
    assert await preview_ids(any_place) == {LISTED}
    assert await stored(any_place) == {LISTED}
    assert await ask(any_place) == 0


async def test_previews_that_cannot_be_listed(
    config: Config, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(config.storage_path, FOLDER).mkdir(parents=True)
    Path(config.storage_path, FOLDER, ORPHAN).touch()

    def remove(previews: FolderPreviews, image_id: str) -> None:
        raise PermissionError('Permission denied')

    monkeypatch.setattr(FolderPreviews, 'remove', remove)
    assert await ask(config, remove=True) == 1
    assert capsys.readouterr().err == 'asgilook: previews: Permission denied\n'


async def test_nothing_is_removed_by_an_empty_database(
    place: Config, capsys: Captured
) -> None:
    await fill(place, LISTED, MISSING, CUT)
    assert await ask(place, remove=True) == 1
    assert await stored(place) == {ORPHAN}
    assert '0 of them removed' in capsys.readouterr().out


async def test_no_preview_is_removed_by_an_empty_database(
    place: Config, capsys: Captured
) -> None:
    async with open_place(place) as there:
        await asyncio.to_thread(there.storage.previews.write, ORPHAN, b'preview')
    assert await ask(place, remove=True) == 1
    output = capsys.readouterr().out
    assert output.endswith('1 previews without an image, 0 removed\n')
    assert await preview_ids(place) == {ORPHAN}


async def test_full_temporary_folder(
    config: Config, photo: bytes, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sqlite3.connect

    def connect_to_full(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = original(*args, **kwargs)
        connection.execute('PRAGMA max_page_count = 1')
        return connection

    monkeypatch.setattr(sqlite3, 'connect', connect_to_full)
    Path(config.storage_path).mkdir()
    Path(config.storage_path, LISTED).write_bytes(photo)
    assert await ask(config) == 1
    assert capsys.readouterr().err == (
        'asgilook: The temporary list of files cannot be written '
        '(database or disk is full): set TMPDIR to a writable folder with free space. '
        'Comparison incomplete.\n'
    )


async def test_command(
    place: Config, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place, MISSING, CUT)
    for name in ('storage_path', 'storage_url', 'database_url'):
        value = getattr(place, name)
        monkeypatch.setenv(f'ASGI_LOOK_{name.upper()}', value or 'none')
    assert await asyncio.to_thread(main, ['check']) == 0
    assert await asyncio.to_thread(main, ['check', '--younger', '0']) == 1
    assert (
        await asyncio.to_thread(main, ['check', '--younger', '0', '--remove-orphans'])
        == 0
    )
    assert await stored(copy.copy(place)) == {LISTED}
