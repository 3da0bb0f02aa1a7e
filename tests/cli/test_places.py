from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asgilook.cli import places
from asgilook.cli.places import Place, open_place
from asgilook.config import Config, ConfigError
from asgilook.errors import StorageUnavailable

from ..conftest import apart, place


def read(config: Config, deleted: int = 0) -> list[list[int]]:
    """Return the pages, as numbers; images are deleted while the first one is read."""

    async def main() -> list[list[int]]:
        found = []
        async with open_place(config) as there:
            async for page in there.pages():
                found.append([int(image.image_id[-12:], 16) for image in page])
                for image in page[len(page) - deleted :]:
                    await remove(there, image.image_id)
        return found

    async def remove(there: Place, image_id: str) -> None:
        await asyncio.to_thread(there.storage.remove, image_id)

    return apart(asyncio.run, main())


@pytest.mark.parametrize('count', [0, 1, 2, 3, 4])
def test_pages(
    config: Config, photo: bytes, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    for number in range(count):
        place(config, photo, number + 1)
    assert read(config) == [
        list(range(start, min(start + 2, count + 1)))
        for start in range(1, count + 1, 2)
    ]


def test_pages_while_images_are_deleted(
    config: Config, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    for number in range(1, 5):
        place(config, photo, number)
    assert read(config, deleted=1) == [[1, 2], [3, 4]]


def test_pages_while_all_images_are_deleted(
    config: Config, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, 'PAGE_SIZE', 2)
    for number in range(1, 5):
        place(config, photo, number)
    with pytest.raises(StorageUnavailable, match='deleted'):
        read(config, deleted=2)


def test_folder_that_cannot_be_open_place(config: Config, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    config.storage_path = str(tmp_path / 'file' / 'images')
    with pytest.raises(ConfigError, match='Not a directory'):
        read(config)
