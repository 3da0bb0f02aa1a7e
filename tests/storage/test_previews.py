"""Previews: the bytes of a thumbnail never depend on them."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgilook.config import Config
from asgilook.errors import ImageNotFound, StorageUnavailable, StoredImageDamaged
from asgilook.imaging import reduction, transform
from asgilook.index.folder import FolderIndex
from asgilook.metrics.registry import Metrics
from asgilook.models import Image, Size
from asgilook.pipeline import renderer
from asgilook.storage import previews as previews_module
from asgilook.storage.atomic import TEMPORARY, NewFile
from asgilook.storage.previews import FOLDER, FolderPreviews, Previews
from asgilook.store import Store
from tests import samples
from tests.conftest import files, logged, place, until
from tests.test_store import Blocked

FIRST = '00000000-0000-4000-8000-000000000001'
SECOND = '00000000-0000-4000-8000-000000000002'
THIRD = '00000000-0000-4000-8000-000000000003'
PHOTO = samples.photo(1600, 1200)
TURNED = samples.camera(samples.scene(1600, 1200), 6)
ODD = samples.photo(2001, 1001)
SIZES = [(800, 600), (400, 300), (200, 150), (100, 75)]
PREVIEW = SIZES[0]


class Service:
    """An open store, with its metrics and its folder of previews."""

    def __init__(self, config: Config) -> None:
        self.metrics = Metrics()
        self.store = Store(config, self.metrics)
        self.folder = Path(config.storage_path, FOLDER)

    async def save(self, image_id: str, body: bytes) -> Image:
        async with self.store.upload() as upload:
            await upload.write(body)
            return await self.store.save(image_id, upload)

    async def thumbnails(self, image: Image) -> list[bytes]:
        """Return all thumbnails of an image, which no longer shares earlier renders."""
        await asyncio.sleep(0.01)
        return [
            await self.store.make_thumbnail(image, size, format_)
            for size in reversed(image.reductions(64))
            for format_ in ('jpeg', 'webp')
        ]

    def count(self, event: str) -> int:
        """Return how many previews were stored, made or used."""
        labels = {'event': event}
        name = 'asgilook_preview_duration_seconds_count'
        return int(self.metrics.registry.get_sample_value(name, labels) or 0)

    def jobs(self, kind: str) -> int:
        """Return how many jobs of a kind have run in worker threads."""
        name = 'asgilook_job_duration_seconds_count'
        return int(self.metrics.registry.get_sample_value(name, {'kind': kind}) or 0)


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Service]:
    service = Service(config)
    await service.store.start()
    try:
        yield service
    finally:
        await service.store.stop()


@pytest.fixture(autouse=True)
def _no_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no render and no preview be shared with a later request."""
    monkeypatch.setattr('asgilook.concurrency.KEEP_SECONDS', 0)


@pytest.fixture
async def service(config: Config) -> AsyncIterator[Service]:
    """Return a store that is started."""
    async with opened(config) as service:
        yield service


@asynccontextmanager
async def busy(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Occupy a worker thread, so that no preview is made in idle time."""
    image = await service.save(THIRD, samples.photo(512, 256))
    blocked = Blocked('thumbnail', monkeypatch)
    task = asyncio.create_task(service.store.make_thumbnail(image, (256, 128)))
    await blocked.wait()
    try:
        yield
    finally:
        blocked.release.set()
        await task


# -- When they are made ---------------------------------------------------------------


async def test_upload_that_is_kept_stores_its_preview(service: Service) -> None:
    image = await service.save(FIRST, PHOTO)
    assert os.listdir(service.folder) == [FIRST]
    stored = (service.folder / FIRST).read_bytes()
    for size in SIZES:
        thumbnail = await service.store.make_thumbnail(image, size)
        assert samples.decode(thumbnail).size == size
        assert thumbnail in stored
    assert service.count('upload') == 1
    assert service.count('used') == len(SIZES)
    assert service.count('request') == service.jobs('thumbnail') == 0


@pytest.mark.parametrize('body', [TURNED, ODD, samples.png(1600, 1200)])
async def test_other_uploads_get_their_preview_when_idle(
    service: Service, body: bytes
) -> None:
    for image_id in (FIRST, SECOND):
        await service.save(image_id, body)
    await until(lambda: service.count('idle') == 2)
    assert set(os.listdir(service.folder)) == {FIRST, SECOND}
    assert service.count('request') == service.count('upload') == 0


async def test_idle_previews_wait_for_other_jobs(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer, 'IDLE_DELAY', 0.001)
    config.threads = 2
    async with opened(config) as service:
        async with busy(service, monkeypatch):
            for image_id in (FIRST, SECOND):
                await service.save(image_id, TURNED)
            assert service.count('idle') == service.jobs('preview') == 0
        await until(lambda: service.count('idle') == 2)


async def test_idle_preview_of_a_deleted_image(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer, 'IDLE_DELAY', 0.001)
    config.threads = 2
    async with opened(config) as service:
        async with busy(service, monkeypatch):
            image = await service.save(FIRST, TURNED)
            await service.store.delete(image)
            await service.save(SECOND, TURNED)
        await until(lambda: service.count('idle'))
        assert os.listdir(service.folder) == [SECOND]


@pytest.mark.parametrize('size', [(1500, 1000), (64, 30_000), (1300, 1300)])
async def test_images_without_a_preview(config: Config, size: Size) -> None:
    config.min_thumb_size = 700
    async with opened(config) as service:
        image = await service.save(FIRST, samples.photo(*size))
        await service.thumbnails(image)
        assert files(config) == {FIRST}


@pytest.mark.parametrize(
    ('full', 'minimum', 'expected'),
    [
        ((1500, 1000), 64, []),
        ((1501, 1000), 64, [(750, 500), (375, 250), (187, 125)]),
        ((4000, 3000), 64, [(1000, 750), (500, 375), (250, 187), (125, 93)]),
        ((4608, 3456), 400, [(1152, 864), (576, 432)]),
        ((4608, 3456), 432, [(1152, 864), (576, 432)]),
        ((4608, 3456), 433, [(1152, 864)]),
        ((2048, 2048), 512, [(1024, 1024), (512, 512)]),
        ((2050, 2050), 64, [(512, 512), (256, 256), (128, 128), (64, 64)]),
        ((4000, 3000), 751, []),
        ((60_000, 60), 64, []),
    ],
)
def test_preview_sizes(full: Size, minimum: int, expected: list[Size]) -> None:
    assert reduction.preview_sizes(full, minimum) == expected
    listed = Image(FIRST, full, 1, 1).reductions(minimum)
    assert listed[len(listed) - len(expected) :] == expected


# -- Identity -----------------------------------------------------------------------


async def test_smallest_size_changes_no_thumbnail(config: Config) -> None:
    """Previews with fewer or more sizes are made again, with the same bytes."""
    thumbnails: dict[Size, bytes] = {}
    for number, minimum in enumerate((64, 32, 150, 64)):
        config.min_thumb_size = minimum
        async with opened(config) as service:
            if not number:
                await service.save(FIRST, PHOTO)
            image = await service.store.get(FIRST)
            for size in image.reductions(minimum):
                thumbnail = await service.store.make_thumbnail(image, size)
                assert thumbnails.setdefault(size, thumbnail) == thumbnail
            assert service.count('request') == (number > 0)
    assert len(thumbnails) == len(SIZES) + 1


@pytest.mark.parametrize('body', [PHOTO, TURNED, ODD])
async def test_bytes_depend_on_the_image_alone(
    config: Config, service: Service, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer, 'IDLE_DELAY', 99)
    image = await service.save(FIRST, body)
    expected = await service.thumbnails(image)
    for size in image.reductions(64):
        shutil.rmtree(service.folder)
        for _ in range(2):
            thumbnail = await service.store.make_thumbnail(image, size)
            assert thumbnail in expected
    assert await service.thumbnails(image) == expected


def truncate(path: Path, others: dict[str, bytes]) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill(path: Path, others: dict[str, bytes]) -> None:
    path.write_bytes(random.Random(1).randbytes(9999))


def flip(path: Path, others: dict[str, bytes]) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path, others: dict[str, bytes]) -> None:
    path.write_bytes(b'')


def swap(path: Path, others: dict[str, bytes]) -> None:
    path.write_bytes(others['image'])


def requality(path: Path, others: dict[str, bytes]) -> None:
    path.write_bytes(others['quality'])


def directory(path: Path, others: dict[str, bytes]) -> None:
    path.unlink()
    (path / 'full').mkdir(parents=True)


def loop(path: Path, others: dict[str, bytes]) -> None:
    path.unlink()
    path.symlink_to(path)


def pipe(path: Path, others: dict[str, bytes]) -> None:
    path.unlink()
    os.mkfifo(path)


def remove(path: Path, others: dict[str, bytes]) -> None:
    path.unlink()


def remove_all(path: Path, others: dict[str, bytes]) -> None:
    shutil.rmtree(path.parent)


def block(path: Path, others: dict[str, bytes]) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


def read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b''


Damage = Callable[[Path, dict[str, bytes]], None]


@pytest.mark.parametrize(
    ('damage', 'is_stored'),
    [
        *((damage, True) for damage in (truncate, fill, flip, empty, swap)),
        *((damage, True) for damage in (requality, loop, pipe, remove, remove_all)),
        *((damage, False) for damage in (directory, block)),
    ],
)
async def test_damaged_preview_is_made_again(
    config: Config,
    caplog: pytest.LogCaptureFixture,
    damage: Damage,
    is_stored: bool,
) -> None:
    others = {}
    config.jpeg_quality = 60
    async with opened(config) as service:
        await service.save(FIRST, PHOTO)
        others['quality'] = (service.folder / FIRST).read_bytes()
    config.jpeg_quality = 85
    async with opened(config) as service:
        image = await service.store.get(FIRST)
        await service.save(SECOND, samples.photo(1600, 1200, seed=1))
        others['image'] = (service.folder / SECOND).read_bytes()
        expected = await service.thumbnails(image)
        assert service.count('request') == 1
        content = (service.folder / FIRST).read_bytes()
        damage(service.folder / FIRST, others)
        assert await service.thumbnails(image) == expected
        made = 2 if is_stored else 1 + 2 * len(SIZES)
        assert service.count('request') == made
        assert (read(service.folder / FIRST) == content) is is_stored
    assert len(logged(caplog)) == (not is_stored)


async def test_replaced_image_gets_a_new_preview(
    config: Config, service: Service
) -> None:
    image = await service.save(FIRST, PHOTO)
    before = await service.thumbnails(image)
    other = await service.save(SECOND, samples.photo(1600, 1200, seed=1))
    expected = await service.thumbnails(other)
    shutil.copy(f'{config.storage_path}/{SECOND}', f'{config.storage_path}/{FIRST}')
    again = await service.store.get(FIRST)
    assert again != image
    assert await service.thumbnails(again) == expected != before


async def test_image_replaced_while_its_preview_is_made(
    config: Config, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*args: Any, **kwargs: Any) -> list[bytes]:
        path.write_bytes(samples.photo(1600, 1200, seed=1))
        return original(*args, **kwargs)

    monkeypatch.setattr(renderer, 'IDLE_DELAY', 99)
    original, path = transform.previews, Path(config.storage_path, FIRST)
    image = await service.save(FIRST, TURNED)
    monkeypatch.setattr(transform, 'previews', replace)
    await service.store.make_thumbnail(image, image.reductions(64)[0])
    assert files(config) == {FIRST}


async def test_damaged_image_has_no_preview(config: Config, service: Service) -> None:
    placed = place(config, PHOTO)
    path = Path(config.storage_path, placed['id'])
    path.write_bytes(PHOTO[: len(PHOTO) // 2])
    image = await service.store.get(placed['id'])
    for size in SIZES:
        with pytest.raises(StoredImageDamaged):
            await service.store.make_thumbnail(image, size)
    assert files(config) == {placed['id']}


async def test_concurrent_requests_make_a_preview_once(
    config: Config, service: Service
) -> None:
    placed = place(config, PHOTO)
    image = await service.store.get(placed['id'])
    renders = [
        service.store.make_thumbnail(image, size) for size in SIZES for _ in '123'
    ]
    await asyncio.gather(*renders)
    assert service.count('request') == 1


async def test_previews_removed_under_load(service: Service) -> None:
    async def request() -> None:
        while not done.is_set():
            for size in SIZES:
                assert await service.store.make_thumbnail(image, size) in expected

    image = await service.save(FIRST, PHOTO)
    expected = set(await service.thumbnails(image))
    done = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(request())
        while service.count('request') < 5:
            await asyncio.sleep(0.02)
            shutil.rmtree(service.folder, ignore_errors=True)
        done.set()


# -- Deletions ----------------------------------------------------------------------


async def test_deletion_removes_the_preview(service: Service) -> None:
    image = await service.save(FIRST, PHOTO)
    await service.save(SECOND, PHOTO)
    await service.store.delete(image)
    assert os.listdir(service.folder) == [SECOND]
    with pytest.raises(ImageNotFound):
        await service.store.delete(image)


async def test_deletion_while_a_preview_is_stored(
    config: Config, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(files: FolderPreviews, image_id: str, content: bytes) -> None:
        os.unlink(f'{config.storage_path}/{image_id}')
        original(files, image_id, content)

    original = FolderPreviews.write
    monkeypatch.setattr(FolderPreviews, 'write', write)
    placed = place(config, PHOTO)
    image = await service.store.get(placed['id'])
    thumbnail = await service.store.make_thumbnail(image, PREVIEW)
    assert samples.decode(thumbnail).size == PREVIEW
    assert os.listdir(service.folder) == []


async def test_preview_that_cannot_be_removed(
    config: Config,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def remove(files: FolderPreviews, image_id: str) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(FolderPreviews, 'remove', remove)
    for image_id in (FIRST, SECOND):
        await service.store.delete(await service.save(image_id, PHOTO))
    (line,) = logged(caplog)
    assert line.startswith(f"WARNING can't remove the previews of {FIRST}: ")


# -- Failures of the storage --------------------------------------------------------


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, 'No space left on device'),
        PermissionError(errno.EACCES, 'Permission denied'),
        StorageUnavailable('Read-only bucket.'),
    ],
)
async def test_preview_that_cannot_be_stored(
    config: Config,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def write(files: FolderPreviews, image_id: str, content: bytes) -> None:
        raise error

    expected = await service.thumbnails(await service.save(FIRST, PHOTO))
    await service.store.delete(await service.store.get(FIRST))
    with monkeypatch.context() as patch:
        patch.setattr(FolderPreviews, 'write', write)
        image = await service.save(FIRST, PHOTO)
        assert await service.thumbnails(image) == expected
        assert os.listdir(service.folder) == []
        assert len(logged(caplog)) == 1
        patch.setattr(previews_module, 'LOG_INTERVAL', 0)
    assert await service.thumbnails(image) == expected
    assert os.listdir(service.folder) == [FIRST]


async def test_preview_is_not_kept_while_the_index_is_unavailable(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(index: FolderIndex, image: Image) -> bool:
        raise StorageUnavailable('The database is unavailable.')

    monkeypatch.setattr(FolderIndex, 'is_current', fail)
    placed = place(config, PHOTO)
    async with opened(config) as service:
        image = await service.store.get(placed['id'])
        thumbnail = await service.store.make_thumbnail(image, PREVIEW)
        assert samples.decode(thumbnail).size == PREVIEW
        assert files(config) == {placed['id']}


def test_log_of_failures_once_a_minute(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr('time.monotonic', lambda: clock[0])
    previews = Previews(FolderPreviews(str(tmp_path / 'missing')), renderer='r')
    image = Image(FIRST, (9, 9), 9, 9)
    for clock[0], lines in ((1000.0, 1), (1001.0, 1), (1059.9, 1), (1060.1, 2)):
        previews.write(image, [b'jpeg'])
        assert len(logged(caplog)) == lines
        assert previews.read(image, 0, 1) is None


def test_no_temporary_remains_after_a_failed_write(tmp_path: Path) -> None:
    files = FolderPreviews(str(tmp_path))
    (tmp_path / FOLDER / FIRST / 'full').mkdir(parents=True)
    with pytest.raises(OSError, match='directory'):
        files.write(FIRST, b'content')
    assert os.listdir(tmp_path / FOLDER) == [FIRST]


async def test_temporaries_of_dead_processes_are_swept(config: Config) -> None:
    folder = Path(config.storage_path, FOLDER)
    folder.mkdir(parents=True)
    (folder / f'{TEMPORARY}dead').touch()
    living = NewFile(str(folder), durable=False)
    async with opened(config) as service:
        assert len(os.listdir(service.folder)) == 1
    living.close()


async def test_previews_are_not_images(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        async with opened(config) as service:
            await service.save(FIRST, PHOTO)
            page = await service.store.list_images(9)
            (service.folder / SECOND).write_bytes(b'another')
            again = await service.store.list_images(9)
            assert [image.image_id for image in again.images] == [FIRST]
            assert again == page
    assert logged(caplog) == []


def test_image_ids(tmp_path: Path) -> None:
    files = FolderPreviews(str(tmp_path))
    assert list(files.image_ids()) == []
    files.write(FIRST, b'content')
    (tmp_path / FOLDER / 'foreign').touch()
    assert list(files.image_ids()) == [FIRST]
    files.remove(FIRST)
    files.remove(FIRST)
    assert list(files.image_ids()) == []


def test_preview_is_not_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, 'fsync', flushed.append)
    files = FolderPreviews(str(tmp_path))
    files.write(FIRST, b'content')
    assert files.read(FIRST) == b'content'
    assert flushed == []
