from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from asgilook.cli import places
from asgilook.cli.places import open_place, prepared
from asgilook.config import Config, ConfigError
from asgilook.errors import StorageUnavailable

from ..conftest import place


async def read(config: Config, deleted: int = 0) -> list[list[int]]:
    """Return the pages, as numbers; images are deleted while the first one is read."""
    found = []
    async with open_place(config) as there:
        async for page in there.pages():
            found.append([int(image.image_id[-12:], 16) for image in page])
            for image in page[len(page) - deleted :]:
                await asyncio.to_thread(there.storage.remove, image.image_id)
    return found


@pytest.mark.parametrize('count', [0, 1, 2, 3, 4])
async def test_pages(
    config: Config, photo: bytes, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    for number in range(count):
        place(config, photo, number + 1)
    assert await read(config) == [
        list(range(start, min(start + 2, count + 1)))
        for start in range(1, count + 1, 2)
    ]


async def test_pages_while_images_are_deleted(
    config: Config, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    for number in range(1, 5):
        place(config, photo, number)
    assert await read(config, deleted=1) == [[1, 2], [3, 4]]


async def test_pages_while_all_images_are_deleted(
    config: Config, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    for number in range(1, 5):
        place(config, photo, number)
    with pytest.raises(StorageUnavailable, match='deleted'):
        await read(config, deleted=2)


def test_settings_of_a_folder_that_may_become_available(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a disk that isn't mounted: no error to start with."""
    config.storage_path = str(tmp_path / 'link')
    (tmp_path / 'link').symlink_to(tmp_path / 'not-mounted')
    assert prepared(config) is config

    def fail(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(os, 'makedirs', fail)
    config.storage_path = str(tmp_path / 'images')
    assert prepared(config) is config


@pytest.mark.parametrize('path', ['file', 'file/images', 'x' * 300])
def test_settings_of_a_path_that_cannot_be_a_folder(
    config: Config, tmp_path: Path, path: str
) -> None:
    (tmp_path / 'file').touch()
    config.storage_path = str(tmp_path / path)
    with pytest.raises(ConfigError) as raised:
        prepared(config)
    assert raised.value.name == 'ASGI_LOOK_STORAGE_PATH'
    assert raised.value.value == config.storage_path


async def test_folder_that_cannot_be_opened(config: Config, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    config.storage_path = str(tmp_path / 'file' / 'images')
    with pytest.raises(ConfigError, match='Not a directory'):
        await read(config)
