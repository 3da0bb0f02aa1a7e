"""Previews in a bucket of moto's server, or of a stub."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from asgilook.config import Config
from asgilook.errors import ImageNotFound, StorageUnavailable
from asgilook.models import Image
from asgilook.storage.s3 import ObjectStorage
from asgilook.storage.s3_previews import ObjectPreviews
from asgilook.store import Store
from tests import samples
from tests.backends import S3
from tests.conftest import logged
from tests.storage.test_s3 import FIRST, SECOND, answering, url_of

PHOTO = samples.photo(1600, 1200)


@pytest.fixture
def storage(bucket: str, tmp_path: Path) -> Iterator[ObjectStorage]:
    storage = ObjectStorage(bucket, str(tmp_path / 'work'))
    storage.start()
    yield storage
    storage.stop()


@pytest.fixture
def previews(storage: ObjectStorage) -> ObjectPreviews:
    return storage.previews


def test_objects(
    previews: ObjectPreviews, storage: ObjectStorage, s3: S3, bucket: str
) -> None:
    for content in (b'old', b'content'):
        previews.write(FIRST, content)
    assert previews.read(FIRST) == b'content'
    name = urlsplit(bucket).netloc
    found = s3.client.get_object(Bucket=name, Key=f'a/b/previews/{FIRST}.jpeg')
    assert found['ContentType'] == 'image/jpeg'
    assert list(storage.entries()) == []


def test_removal(previews: ObjectPreviews) -> None:
    previews.write(FIRST, b'content')
    for _ in range(2):
        previews.remove(FIRST)
    with pytest.raises(ImageNotFound):
        previews.read(FIRST)


def test_image_ids(previews: ObjectPreviews, s3: S3, bucket: str) -> None:
    assert list(previews.image_ids()) == []
    previews.write(FIRST, b'content')
    previews.write(SECOND, b'content')
    name = urlsplit(bucket).netloc
    s3.client.put_object(Bucket=name, Key='a/b/previews/foreign', Body=b'x')
    assert set(previews.image_ids()) == {FIRST, SECOND}


def test_rejected_writes_do_not_make_the_store_unavailable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(403, 'AccessDenied') as port:
        storage = ObjectStorage(url_of(port), str(tmp_path))
        storage.start()
        caplog.clear()
        with pytest.raises(StorageUnavailable, match=r'403.*AccessDenied') as raised:
            storage.previews.write(FIRST, b'content')
        assert 'k3y' not in str(raised.value)
        with pytest.raises(StorageUnavailable, match=r'403.*AccessDenied'):
            storage.previews.remove(FIRST)
        storage.stop()
    assert logged(caplog) == []


def test_small_thumbnails_read_the_preview_only(
    config: Config, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.storage_url = bucket
    config.database_url = f'sqlite://{tmp_path}/index.db'
    opened = []
    original = ObjectStorage.open

    def record(storage: ObjectStorage, image_id: str) -> BinaryIO:
        opened.append(image_id)
        return original(storage, image_id)

    monkeypatch.setattr(ObjectStorage, 'open', record)

    async def scenario(store: Store) -> None:
        async with store.upload() as upload:
            await upload.write(PHOTO)
            image: Image = await store.save(FIRST, upload)
        for size in image.reductions(64):
            for format_ in ('jpeg', 'webp'):
                assert await store.make_thumbnail(image, size, format_)
        assert opened == []
        await store.delete(image)

    async def main() -> None:
        store = Store(config)
        await store.start()
        await scenario(store)
        await store.stop()

    asyncio.run(main())
