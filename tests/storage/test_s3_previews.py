"""Previews in a bucket of moto, SeaweedFS, or a stub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from asgilook.config import Config
from asgilook.errors import ImageNotFound, StorageUnavailable
from asgilook.imaging import reduction
from asgilook.imaging.transform import Format
from asgilook.models import Image
from asgilook.storage.s3 import ObjectStorage
from asgilook.storage.s3_previews import ObjectPreviews
from asgilook.store import Store
from tests import samples
from tests.conftest import logged
from tests.object_stores import ObjectStore, behind, name_of
from tests.proxy import HTTPProxy
from tests.storage.test_s3 import FIRST, SECOND, answering, url_of

PHOTO = samples.photo(1600, 1200)
FORMATS: tuple[Format, ...] = ('jpeg', 'webp')


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
    previews: ObjectPreviews, storage: ObjectStorage, s3: ObjectStore, bucket: str
) -> None:
    for content in (b'old', b'content'):
        previews.write(FIRST, content)
    assert previews.read(FIRST) == b'content'
    found = s3.client.get_object(
        Bucket=name_of(bucket), Key=f'a/b/previews/{FIRST}.jpeg'
    )
    assert found['ContentType'] == 'image/jpeg'
    assert list(storage.entries()) == []


def test_removal(previews: ObjectPreviews) -> None:
    previews.write(FIRST, b'content')
    for _ in range(2):
        previews.remove(FIRST)
    with pytest.raises(ImageNotFound):
        previews.read(FIRST)


def test_image_ids(previews: ObjectPreviews, s3: ObjectStore, bucket: str) -> None:
    assert list(previews.image_ids()) == []
    previews.write(FIRST, b'content')
    previews.write(SECOND, b'content')
    s3.client.put_object(Bucket=name_of(bucket), Key='a/b/previews/foreign', Body=b'x')
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


# -- requests to the store --------------------------------------------------------


@pytest.fixture
def proxy(s3: ObjectStore) -> Iterator[HTTPProxy]:
    """Return a proxy in front of the object store, which records the requests."""
    with HTTPProxy(s3.port) as proxy:
        yield proxy


@pytest.fixture
async def store(
    config: Config,
    bucket: str,
    proxy: HTTPProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Store]:
    """Yield a store whose bucket is behind the proxy."""
    monkeypatch.setattr('asgilook.concurrency.KEEP_SECONDS', 0)
    config.storage_url = behind(proxy, bucket)
    config.database_url = f'sqlite://{tmp_path}/index.db'
    store = Store(config)
    await store.start()
    yield store
    await store.stop()


async def save(store: Store) -> Image:
    async with store.upload() as upload:
        await upload.write(PHOTO)
        return await store.save(FIRST, upload)


async def requests(
    proxy: HTTPProxy, thumbnail: Awaitable[bytes]
) -> tuple[bytes, list[tuple[str, str]], int]:
    """Return a thumbnail, the requests for it, and the length of the responses."""
    proxy.exchanges.clear()
    content = await thumbnail
    seen = list(proxy.exchanges)
    keys = [(each.method, each.path.partition('/a/b/')[2]) for each in seen]
    return content, keys, sum(each.received for each in seen)


IMAGE, PREVIEW = f'{FIRST}.jpeg', f'previews/{FIRST}.jpeg'
MAX_HEAD = 1000  # of a response, in bytes


async def test_small_thumbnails_read_the_preview_only(
    store: Store, proxy: HTTPProxy, s3: ObjectStore, bucket: str
) -> None:
    image = await save(store)
    stored = s3.client.head_object(Bucket=name_of(bucket), Key=f'a/b/{PREVIEW}')
    length = stored['ContentLength']
    for size in image.reductions(64):
        for format_ in FORMATS:
            thumbnail = store.make_thumbnail(image, size, format_)
            _, keys, received = await requests(proxy, thumbnail)
            assert keys == [('GET', PREVIEW)]
            assert length < received < length + MAX_HEAD


async def test_thumbnail_without_a_preview_reads_the_image_once(
    store: Store, proxy: HTTPProxy, s3: ObjectStore, bucket: str
) -> None:
    image = await save(store)
    smallest = image.reductions(64)[-1]
    expected, _, _ = await requests(proxy, store.make_thumbnail(image, smallest))
    key = f'a/b/{PREVIEW}'
    before = s3.client.get_object(Bucket=name_of(bucket), Key=key)['Body'].read()
    s3.client.delete_object(Bucket=name_of(bucket), Key=key)
    await asyncio.sleep(0.01)  # until no earlier render is shared
    content, keys, received = await requests(
        proxy, store.make_thumbnail(image, smallest, 'jpeg')
    )
    assert content == expected
    assert keys == [('GET', PREVIEW), ('GET', IMAGE), ('PUT', PREVIEW)]
    assert image.length < received < image.length + 3 * MAX_HEAD
    after = s3.client.get_object(Bucket=name_of(bucket), Key=key)['Body'].read()
    assert after == before


async def test_large_thumbnail_reads_the_image_only(
    store: Store, proxy: HTTPProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction, 'MAX_PREVIEW_PIXELS', 400 * 300)

    image = await save(store)
    thumbnail = store.make_thumbnail(image, (800, 600))
    _, keys, received = await requests(proxy, thumbnail)
    assert keys == [('GET', IMAGE)]
    assert image.length < received < image.length + MAX_HEAD
