from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from falcon.testing import TestClient

from asgilook import concurrency
from asgilook.app import create_app
from asgilook.config import Config
from asgilook.errors import (
    Busy,
    DatabaseUnavailable,
    DeadlineExceeded,
    ImageDamaged,
    ImageNotFound,
    ImageReplaced,
    OutcomeUnknown,
    StorageUnavailable,
    StoredImageDamaged,
)
from asgilook.imaging import transform
from asgilook.index.folder import FolderIndex
from asgilook.storage import atomic as file_module
from asgilook.storage import folder
from asgilook.storage import stream as stream_module
from asgilook.storage.atomic import TEMPORARY
from asgilook.storage.stream import BLOCK_SIZE
from asgilook.store import Image, Store

from . import samples
from .conftest import files, logged, open_files, place, until

FIRST = '00000000-0000-4000-8000-000000000001'
SECOND = '00000000-0000-4000-8000-000000000002'


async def save(store: Store, image_id: str, body: bytes) -> Image:
    async with store.upload() as upload:
        await upload.write(body)
        return await store.save(image_id, upload)


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    """Return a store that is started, and stop it at the end."""
    store = Store(config)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture
async def store(config: Config) -> AsyncIterator[Store]:
    """Return a store that is started."""
    async with opened(config) as store:
        yield store


@pytest.fixture
def obstacle(config: Config) -> Path:
    """Return a file in the place of the storage folder."""
    path = Path(config.storage_path)
    path.touch()
    return path


class Blocked:
    """Stands for a function of `transform`: begins, and ends when it is let go."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self._original = getattr(transform, name)
        monkeypatch.setattr(transform, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.started.set()
        self.release.wait(60)
        return self._original(*args, **kwargs)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.started.wait, 60)


async def start(config: Config) -> None:
    """Start a store, and stop it."""
    async with opened(config):
        pass


async def test_store_makes_its_folder_at_start(config: Config) -> None:
    config.storage_path = f'{config.storage_path}/deeper/still'
    Store(config)
    with pytest.raises(FileNotFoundError):
        files(config)
    for _ in range(2):
        await start(config)
    assert files(config) == set()


async def test_store_takes_a_path(config: Config, tmp_path: Path) -> None:
    config.storage_path = tmp_path / 'path'  # type: ignore[assignment]
    await start(config)
    assert (tmp_path / 'path').is_dir()


async def test_store_sweeps_at_start(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    os.makedirs(config.storage_path)
    for name in ('1', '2'):
        (Path(config.storage_path) / f'{TEMPORARY}{name}').touch()
    await start(config)
    assert files(config) == set()
    assert [message for message in logged(caplog) if 'removed 2' in message]


async def test_store_starts_without_its_folder(
    config: Config, obstacle: Path, photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(config) as store:
        for _ in range(2):
            assert not store.is_usable()
            with pytest.raises(StorageUnavailable):
                await store.list_images(9)
            with pytest.raises(StorageUnavailable):
                await store.upload().__aenter__()
        os.unlink(obstacle)
        assert store.is_usable()
        image = await save(store, FIRST, photo)
        assert (await store.list_images(9)).images == [image]
        prefix = f'WARNING storage folder {config.storage_path}: '
        assert [line.removeprefix(prefix) for line in logged(caplog)] == [
            'File exists (EEXIST); uploads are rejected',
            'Not a directory (ENOTDIR); images cannot be listed',
            'uploads are accepted again',
            'images can be listed again',
        ]


async def test_upload_creates_a_folder_that_could_not_be_created_at_start(
    config: Config, obstacle: Path, photo: bytes
) -> None:
    config.storage_path = str(obstacle / 'images')
    async with opened(config) as store:
        os.unlink(obstacle)
        await save(store, FIRST, photo)
        assert files(config) == {FIRST}


async def test_saved_image(config: Config, store: Store, photo: bytes) -> None:
    state = (await store.list_images(9)).state
    image = await save(store, FIRST, photo)
    assert (image.image_id, image.size) == (FIRST, (512, 256))
    stored = await store.read(image)
    assert len(stored) == image.length
    assert samples.decode(stored).tobytes() == samples.decode(photo).tobytes()
    assert await store.get(FIRST) == image
    page = await store.list_images(9)
    assert (page.images, page.more) == ([image], False)
    assert page.state != state
    assert await store.is_current(image)
    assert files(config) == {FIRST}


async def test_saved_bytes_are_those_of_the_file(config: Config, store: Store) -> None:
    image = await save(store, FIRST, samples.png(40, 30))
    content = (Path(config.storage_path) / FIRST).read_bytes()
    assert await store.read(image) == content
    status = os.stat(Path(config.storage_path) / FIRST)
    assert (image.length, image.modified_ns) == (len(content), status.st_mtime_ns)


async def test_rejected_upload_leaves_nothing(
    config: Config, store: Store, photo: bytes
) -> None:
    empty = await store.list_images(9)
    with pytest.raises(ImageDamaged):
        await save(store, FIRST, photo[:-100])
    with pytest.raises(ImageNotFound):
        await store.get(FIRST)
    assert await store.list_images(9) == empty
    assert empty.images == []
    assert files(config) == set()


async def test_upload_past_the_queue(
    config: Config, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    config.threads, config.queue_size = 1, 0
    blocked = Blocked('to_jpeg', monkeypatch)
    async with opened(config) as store:
        async with store.upload() as early:
            await early.write(photo)
            task = asyncio.create_task(save(store, FIRST, photo))
            await blocked.wait()
            with pytest.raises(Busy):
                await save(store, SECOND, photo)
            with pytest.raises(Busy):
                await store.save(SECOND, early)
        blocked.release.set()
        assert (await task).image_id == FIRST
        assert files(config) == {FIRST}
        await save(store, SECOND, photo)
        assert files(config) == {FIRST, SECOND}


async def test_stop_waits_for_uploads(
    config: Config, store: Store, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    blocked = Blocked('to_jpeg', monkeypatch)
    task = asyncio.create_task(save(store, FIRST, photo))
    await blocked.wait()
    task.cancel()
    stopping = asyncio.create_task(store.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    blocked.release.set()
    await stopping
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(config) == {FIRST}


async def test_stop_ends_renders(
    store: Store, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    blocked = Blocked('thumbnail', monkeypatch)
    image = await save(store, FIRST, photo)
    task = asyncio.create_task(store.make_thumbnail(image, (256, 128)))
    await blocked.wait()
    stopping = asyncio.create_task(store.stop())
    await asyncio.sleep(0)
    blocked.release.set()
    await stopping
    with pytest.raises(DeadlineExceeded):
        await task


async def test_stop_rejects_a_later_render(
    config: Config, store: Store, photo: bytes
) -> None:
    placed = place(config, photo)
    image = await store.get(placed['id'])
    task = asyncio.create_task(store.make_thumbnail(image, (256, 128)))
    stopping = asyncio.create_task(store.stop())
    with pytest.raises(Busy, match='stopping'):
        await task
    await stopping


def test_loop_that_ends_in_a_render(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    photo: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocked = Blocked('thumbnail', monkeypatch)
    store = Store(config)

    async def main() -> None:
        await store.start()
        image = await save(store, FIRST, photo)
        task = asyncio.create_task(store.make_thumbnail(image, (256, 128)))
        await blocked.wait()
        assert not task.done()

    asyncio.run(main())
    blocked.release.set()
    asyncio.run(store.stop())
    assert logged(caplog) == []


async def test_thumbnail(store: Store, photo: bytes) -> None:
    image = await save(store, FIRST, photo)
    for size in image.reductions(64):
        thumbnail = await store.make_thumbnail(image, size)
        assert samples.decode(thumbnail).size == size


class BrokenFile(io.FileIO):
    """A file on a broken disk."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, 'Input/output error')


async def test_file_on_a_broken_disk(
    config: Config,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    photo: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = f'{config.storage_path}/{FIRST}'
    image = await save(store, FIRST, photo)
    with monkeypatch.context() as patch:
        patch.setattr(folder.FolderStorage, 'open', lambda *args: BrokenFile(path))
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await store.make_thumbnail(image, (256, 128))
            with pytest.raises(StorageUnavailable):
                await store.read(image)
            with pytest.raises(StorageUnavailable):
                await store.open_stream(image, 0, 9)
    await store.read(image)
    assert logged(caplog) == [
        f'WARNING image file {path}: Input/output error (EIO); requests for it fail',
        f'WARNING image file {path} can be read again',
    ]


async def test_thumbnail_waiters_share_a_render(
    store: Store, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    blocked = Blocked('thumbnail', monkeypatch)
    image = await save(store, FIRST, photo)
    tasks = [
        asyncio.create_task(store.make_thumbnail(image, (256, 128))) for _ in range(5)
    ]
    await blocked.wait()
    tasks[0].cancel()
    blocked.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(result is results[1] for result in results[2:])
    again = await store.make_thumbnail(image, (256, 128))
    assert again is results[1]
    while again is results[1]:
        await asyncio.sleep(concurrency.KEEP_SECONDS / 10)
        again = await store.make_thumbnail(image, (256, 128))
    assert again == results[1]


async def test_stream_survives_deletion(
    store: Store, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, 'BLOCK_SIZE', 1000)
    image = await save(store, FIRST, photo)
    content = await store.read(image)
    stream = await store.open_stream(image, 0, image.length)
    received = await anext(stream)
    await store.delete(image)
    async for block in stream:
        received += block
    assert received == content


async def test_stream_that_is_given_up_closes_its_file(
    config: Config, store: Store, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, 'BLOCK_SIZE', 1000)
    image = await save(store, FIRST, photo)
    path = Path(config.storage_path) / FIRST
    assert open_files(path) == 0
    stream = await store.open_stream(image, 0, image.length)
    await anext(stream)
    assert open_files(path) == 1
    await stream.close()
    assert open_files(path) == 0


@pytest.mark.parametrize(
    ('start', 'stop'),
    [(0, 10), (5, 6), (0, BLOCK_SIZE + 1), (BLOCK_SIZE - 1, 2 * BLOCK_SIZE), (7, 7)],
)
async def test_open_stream(config: Config, store: Store, start: int, stop: int) -> None:
    content = os.urandom(1000) * (2 * BLOCK_SIZE // 1000 + 1)
    path = Path(config.storage_path) / FIRST
    path.write_bytes(content)
    image = Image(FIRST, (9, 9), len(content), path.stat().st_mtime_ns)
    stream = await store.open_stream(image, start, stop)
    assert open_files(path) == 1
    blocks = [block async for block in stream]
    assert b''.join(blocks) == content[start:stop]
    assert all(0 < len(block) <= BLOCK_SIZE for block in blocks)
    await stream.close()
    assert open_files(path) == 0


async def test_open_stream_fails_before_its_first_block(
    store: Store, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, 'Input/output error')

    image = await save(store, FIRST, photo)
    file = Unreadable()
    with monkeypatch.context() as patch:
        patch.setattr(stream_module, 'open_image', lambda *args: file)
        with pytest.raises(StorageUnavailable):
            await store.open_stream(image, 0, 9)
    assert file.closed
    with pytest.raises(StorageUnavailable, match='shorter'):
        await store.open_stream(image, image.length, image.length + 1)
    await store.delete(image)
    with pytest.raises(ImageNotFound):
        await store.open_stream(image, 0, 9)


async def test_stream_of_a_file_that_becomes_shorter(
    config: Config, store: Store
) -> None:
    path = Path(config.storage_path) / FIRST
    path.write_bytes(bytes(2 * BLOCK_SIZE))
    image = Image(FIRST, (9, 9), 2 * BLOCK_SIZE, path.stat().st_mtime_ns)
    stream = await store.open_stream(image, 0, image.length)
    assert len(await anext(stream)) == BLOCK_SIZE
    os.truncate(path, BLOCK_SIZE)
    with pytest.raises(StorageUnavailable, match='shorter'):
        await anext(stream)
    await stream.close()


async def test_open_stream_that_is_cancelled(
    store: Store, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is being files_opened at that moment is closed."""
    opening, go_on = threading.Event(), threading.Event()
    original = folder.FolderStorage.open

    def slow_open(storage: folder.FolderStorage, image_id: str) -> Any:
        opening.set()
        assert go_on.wait(60)
        files_opened.append(original(storage, image_id))
        return files_opened[0]

    files_opened: list[Any] = []
    monkeypatch.setattr(folder.FolderStorage, 'open', slow_open)
    image = await save(store, FIRST, photo)
    task = asyncio.create_task(store.open_stream(image, 0, image.length))
    assert await asyncio.to_thread(opening.wait, 60)
    task.cancel()
    await asyncio.wait([task])
    go_on.set()
    await until(lambda: files_opened and files_opened[0].closed)


async def test_damaged_image_is_logged(
    config: Config, store: Store, photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    image = await save(store, FIRST, photo)
    path = Path(config.storage_path) / FIRST
    intact, times = path.read_bytes(), (image.modified_ns, image.modified_ns)
    path.write_bytes(intact[:200] + b'\0' * (len(intact) - 200))
    os.utime(path, ns=times)
    for size in ((256, 128), (128, 64)):
        with pytest.raises(StoredImageDamaged):
            await store.make_thumbnail(image, size)
    path.write_bytes(intact)
    os.utime(path, ns=times)
    await store.make_thumbnail(image, (64, 32))
    first, second = logged(caplog)
    assert first.startswith(f'WARNING stored image {FIRST} is damaged: ')
    assert second == f'WARNING stored image {FIRST} can be decoded again'


def test_limit_below_the_pixels_of_stored_images(config: Config, photo: bytes) -> None:
    """It rejects uploads; stored images keep their thumbnails."""
    image = place(config, photo)
    config.max_pixels = 100
    client = TestClient(create_app(config))
    assert client.simulate_post('/images', body=photo).status_code == 413
    assert client.simulate_get('/images').json == [image]
    for uri in (image['image'], *image['thumbnails']):
        assert client.simulate_get(uri).status_code == 200


async def test_delete(config: Config, store: Store, photo: bytes) -> None:
    image = await save(store, FIRST, photo)
    await store.delete(image)
    assert files(config) == set()
    assert not await store.is_current(image)
    for use in (
        store.get(FIRST),
        store.delete(image),
        store.read(image),
        store.open_stream(image, 0, 9),
        store.make_thumbnail(image, (256, 128)),
    ):
        with pytest.raises(ImageNotFound):
            await use


async def test_delete_beside_a_list(
    config: Config, store: Store, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    """A list between the two steps may show the image, but none after the second."""

    def remove(path: str) -> None:
        reached.set()
        assert go_on.wait(60)
        original(path)

    reached, go_on = threading.Event(), threading.Event()
    original = file_module.remove
    monkeypatch.setattr(file_module, 'remove', remove)
    image = await save(store, FIRST, photo)
    deleting = asyncio.create_task(store.delete(image))
    assert await asyncio.to_thread(reached.wait, 60)
    assert await store.get(FIRST) == image
    assert (await store.list_images(9)).images == [image]
    go_on.set()
    await deleting
    assert (await store.list_images(9)).images == []
    with pytest.raises(ImageNotFound):
        await store.get(FIRST)
    assert files(config) == set()


async def test_delete_at_a_time_is_one(store: Store, photo: bytes) -> None:
    image = await save(store, FIRST, photo)
    both = (store.delete(image), store.delete(image))
    ends = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == [
        'ImageNotFound',
        'NoneType',
    ]


async def test_delete_that_fails_leaves_the_image(
    store: Store, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    def fail(path: str) -> None:
        raise OSError(errno.EROFS, 'Read-only file system')

    image = await save(store, FIRST, photo)
    with monkeypatch.context() as patch:
        patch.setattr(file_module, 'remove', fail)
        with pytest.raises(StorageUnavailable):
            await store.delete(image)
    assert (await store.list_images(9)).images == [image]
    assert await store.get(FIRST) == image
    await store.delete(image)


async def test_upload_without_an_index_is_rejected_unread(
    config: Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_usable(index: FolderIndex) -> bool:
        return False

    monkeypatch.setattr(FolderIndex, 'is_usable', is_usable)
    with pytest.raises(StorageUnavailable):
        await store.upload().__aenter__()
    assert files(config) == set()


@pytest.mark.parametrize(
    ('kind', 'is_left'), [(DatabaseUnavailable, False), (OutcomeUnknown, True)]
)
async def test_upload_that_cannot_be_listed(
    config: Config,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    photo: bytes,
    kind: type[StorageUnavailable],
    is_left: bool,
) -> None:
    """Its file is left only where it may be listed after all."""

    async def fail(index: FolderIndex, image: Image) -> None:
        assert files(config) == {image.image_id}
        raise kind('Not now.')

    monkeypatch.setattr(FolderIndex, 'add', fail)
    with pytest.raises(kind):
        await save(store, FIRST, photo)
    assert files(config) == ({FIRST} if is_left else set())


async def test_upload_that_is_deleted_before_it_is_listed(
    config: Config, store: Store, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    async def add(index: FolderIndex, image: Image) -> None:
        (Path(config.storage_path) / image.image_id).unlink()
        assert (await index.page(9)).images == []
        await original(index, image)

    original = FolderIndex.add
    monkeypatch.setattr(FolderIndex, 'add', add)
    await save(store, FIRST, photo)
    assert (await store.list_images(9)).images == []


@pytest.mark.parametrize('name', ['read', 'make_thumbnail'])
async def test_file_that_cannot_be_read(
    config: Config, store: Store, photo: bytes, name: str
) -> None:
    image = await save(store, FIRST, photo)
    path = Path(config.storage_path) / FIRST
    path.unlink()
    path.mkdir()
    args = [image, (256, 128)][: 1 + (name == 'make_thumbnail')]
    with pytest.raises(StorageUnavailable):
        await getattr(store, name)(*args)


async def test_uploads_at_a_time(store: Store) -> None:
    ids = [f'00000000-0000-4000-8000-0000000000{n}' for n in range(10, 30)]
    bodies = [samples.photo(20 + n, 20) for n in range(20)]
    images = await asyncio.gather(*map(save, [store] * 20, ids, bodies))
    assert [image.size for image in images] == [(20 + n, 20) for n in range(20)]
    page = await store.list_images(99)
    assert sorted(page.images, key=lambda image: image.image_id) == images


async def test_replaced_file_is_not_read_as_the_old_image(
    config: Config, store: Store, photo: bytes
) -> None:
    image = await save(store, FIRST, photo)
    os.utime(f'{config.storage_path}/{FIRST}', (1, 1))
    with pytest.raises(ImageReplaced):
        await store.read(image)
    with pytest.raises(ImageReplaced):
        await store.open_stream(image, 0, 9)


async def test_failing_open_stream_whose_caller_is_gone(
    store: Store, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is not logged as never retrieved."""
    image = await save(store, FIRST, photo)
    opening = asyncio.Event()
    loop = asyncio.get_running_loop()
    release = threading.Event()

    def fail(*args: Any) -> NoReturn:
        loop.call_soon_threadsafe(opening.set)
        release.wait(60)
        raise ImageNotFound('Image not found.')

    monkeypatch.setattr(folder.FolderStorage, 'open', fail)
    task = asyncio.create_task(store.open_stream(image, 0, 9))
    await opening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
