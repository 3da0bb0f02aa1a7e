"""Uploads that are repeated: `Store.save` with `once`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asgilook.config import Config
from asgilook.errors import ImageExists, ImageNotFound, StorageUnavailable
from asgilook.index.database import DatabaseIndex
from asgilook.models import Image
from asgilook.storage.folder import FolderStorage
from asgilook.storage.s3 import ObjectStorage
from asgilook.store import Store

from .. import samples
from ..conftest import files

FIRST = '00000000-0000-4000-8000-000000000001'


@pytest.fixture(params=['folder', 'database', 'moto', 'seaweedfs'])
def settings(request: pytest.FixtureRequest, config: Config, sqlite: str) -> Config:
    if request.param != 'folder':
        config.database_url = sqlite
    if request.param in ('moto', 'seaweedfs'):
        config.storage_url = request.getfixturevalue(f'{request.param}_bucket')
    return config


@pytest.fixture
async def store(settings: Config) -> AsyncIterator[Store]:
    store = Store(settings)
    await store.start()
    yield store
    await store.stop()


async def save(store: Store, content: bytes, *, once: bool = True) -> Image:
    async with store.upload() as upload:
        await upload.write(content)
        return await store.save(FIRST, upload, once=once)


async def test_image_that_exists_is_kept(store: Store, settings: Config) -> None:
    first = await save(store, samples.photo(128, 64))
    content = await store.read(first)
    with pytest.raises(ImageExists):
        await save(store, samples.photo(64, 64))
    assert await store.get(FIRST) == first
    assert await store.read(first) == content


@pytest.mark.parametrize('settings', ['database', 'moto', 'seaweedfs'], indirect=True)
async def test_unlisted_file_is_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed after it had stored the file."""
    with monkeypatch.context() as patch:
        patch.setattr(DatabaseIndex, 'add', killed)
        for storage in (FolderStorage, ObjectStorage):
            patch.setattr(storage, 'remove', lambda *args: None)
        with pytest.raises(Killed):
            await save(store, samples.photo(128, 64))
    with pytest.raises(ImageNotFound):
        await store.get(FIRST)
    image = await save(store, samples.photo(64, 64))
    assert image.size == (128, 64)
    assert await store.get(FIRST) == image
    assert len(await store.read(image)) == image.length


class Killed(Exception):
    pass


async def killed(*args: Any) -> None:
    raise Killed


@pytest.mark.parametrize('settings', ['folder', 'database'], indirect=True)
async def test_damaged_file_is_replaced(store: Store, settings: Config) -> None:
    """A file system without hard links lost power."""
    open(f'{settings.storage_path}/{FIRST}', 'x').close()  # noqa: ASYNC230
    image = await save(store, samples.photo(128, 64))
    assert image.size == (128, 64)
    assert await store.get(FIRST) == image
    assert samples.decode(await store.read(image)).size == (128, 64)


@pytest.mark.parametrize('listed', [True, False, None])
async def test_file_is_removed_unless_it_is_listed(
    config: Config, sqlite: str, monkeypatch: pytest.MonkeyPatch, listed: bool | None
) -> None:
    """The index fails; another worker may have listed the file (None: unknown)."""
    config.database_url = sqlite
    store = Store(config)
    await store.start()

    async def add(self: DatabaseIndex, image: Image) -> None:
        if listed:
            await original(self, image)
        if listed is None:
            monkeypatch.setattr(DatabaseIndex, 'get', unavailable)
        raise ImageExists('Another image has this id.')

    original = DatabaseIndex.add
    monkeypatch.setattr(DatabaseIndex, 'add', add)
    with pytest.raises(ImageExists):
        await save(store, samples.photo(128, 64))
    assert (FIRST in files(config)) == (listed is not False)
    await store.stop()


async def unavailable(*args: Any) -> None:
    raise StorageUnavailable('The database is unavailable.')


async def test_without_once_the_last_upload_replaces(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(config)
    await store.start()
    await save(store, samples.photo(128, 64), once=False)
    image = await save(store, samples.photo(64, 64), once=False)
    assert image.size == (64, 64)
    assert await store.get(FIRST) == image
    await store.stop()
