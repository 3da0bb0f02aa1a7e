from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from asgilook.cli import import_folder as import_module
from asgilook.cli.bulk import Progress
from asgilook.cli.import_folder import (
    Importer,
    content_id,
    import_folder,
    read,
    walk,
)
from asgilook.config import Config, ConfigError
from asgilook.errors import InvalidRequest, UploadTooLarge
from asgilook.imaging import transform
from asgilook.store import Store

from .. import samples
from ..conftest import files
from ..servers import FAULTS, Process, Server, run, until

Captured = pytest.CaptureFixture[str]

NO_IMAGE = 'The file is not a JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF image.'

SUMMARY = re.compile(r'imported (\d+), already present (\d+), rejected (\d+)\n')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three pictures, below each other."""
    folder = tmp_path / 'pictures'
    (folder / 'more').mkdir(parents=True)
    (folder / 'a.jpg').write_bytes(samples.photo(96, 64))
    (folder / 'b.png').write_bytes(samples.png(64, 96))
    (folder / 'more' / 'c').write_bytes(samples.png(128, 128, seed=3))
    return folder


def ids(folder: Path) -> set[str]:
    """Return the ids that the files of a folder have once they are images."""
    return {content_id(Path(path).read_bytes()) for path in walk(str(folder))}


async def take(importer: Importer, store: Store, folder: Path) -> None:
    """Import a folder as the command does, but in any thread."""
    await store.start()
    await importer.run(walk(str(folder)))
    await store.stop()


def many(folder: Path, count: int) -> None:
    """Put pictures into a folder, no two of them alike."""
    folder.mkdir()
    for seed in range(count):
        data = samples.encode(samples.soft(64, 64, seed), 'PNG')
        (folder / f'{seed:03}.png').write_bytes(data)


def test_content_id() -> None:
    # SHA-256 of abc: ba7816bf 8f01cfea 414140de 5dae2223 ...
    assert content_id(b'abc') == 'ba7816bf-8f01-8fea-8141-40de5dae2223'
    assert content_id(b'abd') != content_id(b'abc')


def test_import(config: Config, folder: Path, capsys: Captured) -> None:
    assert import_folder(config, str(folder)) == 0
    assert capsys.readouterr() == ('imported 3, already present 0, rejected 0\n', '')
    assert files(config) == ids(folder)
    for path in Path(config.storage_path).iterdir():
        assert samples.decode(path.read_bytes()).format == 'JPEG'


def test_import_again(config: Config, folder: Path, capsys: Captured) -> None:
    import_folder(config, str(folder))
    before = {path: path.stat() for path in Path(config.storage_path).iterdir()}
    capsys.readouterr()
    assert import_folder(config, str(folder)) == 0
    assert capsys.readouterr().out == 'imported 0, already present 3, rejected 0\n'
    after = {path: path.stat() for path in Path(config.storage_path).iterdir()}
    assert [status.st_ino for status in before.values()] == [
        after[path].st_ino for path in before
    ]


def test_import_restores_deleted_images(
    config: Config, folder: Path, capsys: Captured
) -> None:
    import_folder(config, str(folder))
    Path(config.storage_path, min(ids(folder))).unlink()
    capsys.readouterr()
    assert import_folder(config, str(folder)) == 0
    assert capsys.readouterr().out == 'imported 1, already present 2, rejected 0\n'
    assert files(config) == ids(folder)


def test_import_of_a_stored_but_unlisted_image(
    config: Config, folder: Path, capsys: Captured, tmp_path: Path
) -> None:
    config.database_url = f'sqlite://{tmp_path}/index.db'
    orphan = content_id((folder / 'a.jpg').read_bytes())
    Path(config.storage_path).mkdir()
    Path(config.storage_path, orphan).write_bytes(b'of a run that was killed')
    assert import_folder(config, str(folder)) == 1
    output = capsys.readouterr()
    assert output.out == 'imported 2, already present 0, rejected 1\n'
    assert output.err.startswith(
        f'{folder}/a.jpg: An image with this id already exists.'
    )


def test_import_of_equal_files(
    config: Config, folder: Path, capsys: Captured, photo: bytes
) -> None:
    config.threads = 4
    for number in range(8):
        (folder / f'a{number}').write_bytes(photo)
    assert import_folder(config, str(folder)) == 0
    assert capsys.readouterr().out == 'imported 4, already present 7, rejected 0\n'
    assert files(config) == ids(folder)


def test_import_of_an_empty_folder(
    config: Config, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / 'empty').mkdir()
    assert import_folder(config, str(tmp_path / 'empty')) == 0
    assert capsys.readouterr() == ('imported 0, already present 0, rejected 0\n', '')


async def test_import_prints_rejections(
    config: Config, folder: Path, capsys: Captured, photo: bytes
) -> None:
    good = ids(folder)
    config.threads, config.max_upload_size, config.max_pixels = 1, 100_000, 512 * 256
    odd = f'{folder}/a\nb'
    Path(odd).touch()
    (folder / 'bytes').write_bytes(photo.ljust(100_001))
    (folder / 'cut').write_bytes(photo[:-1000])
    (folder / 'gone').symlink_to('nowhere')
    os.mkfifo(folder / 'pipe')
    (folder / 'pixels').write_bytes(samples.encode(Image.new('1', (513, 256)), 'PNG'))
    (folder / 'text').write_text('no picture')
    importer = Importer(config, store := Store(config), Progress(0, sys.stderr))
    await take(importer, store, folder)
    assert (importer.imported, importer.present, importer.rejected) == (3, 0, 7)
    assert capsys.readouterr().err.splitlines() == [
        f'{odd!r}: The file is empty; expected an image.',
        f'{folder}/bytes: The upload has 100001 bytes; the limit is 100000 bytes.',
        f"{folder}/cut: The image is damaged: it can't be decoded.",
        f'{folder}/gone: No such file or directory',
        f'{folder}/pipe: Not a regular file.',
        f'{folder}/pixels: The image has too many pixels.',
        f'{folder}/text: {NO_IMAGE}',
    ]
    assert files(config) == good


def test_import_without_memory(
    config: Config, folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_jpeg(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(transform, 'to_jpeg', to_jpeg)
    assert import_folder(config, str(folder)) == 1
    out, err = capsys.readouterr()
    assert out == 'imported 0, already present 0, rejected 3\n'
    assert f'{folder}/more/c: Out of memory.\n' in err
    assert files(config) == set()


def test_import_of_an_unreadable_folder(config: Config, capsys: Captured) -> None:
    importer = Importer(config, Store(config), Progress(0, sys.stderr))
    importer.reject_folder(PermissionError(errno.EACCES, 'Permission denied', '/x/y'))
    assert importer.rejected == 1
    assert capsys.readouterr().err == '/x/y: Permission denied\n'


def test_import_into_a_full_storage(
    config: Config, folder: Path, capsys: Captured, file_size_limit: None
) -> None:
    config.threads = 1
    assert import_folder(config, str(folder)) == 1
    out, err = capsys.readouterr()
    assert out == 'imported 1, already present 0, rejected 0\n'
    assert err == ('asgilook: The storage is full. ([Errno 27] File too large)\n')
    assert files(config) == {content_id((folder / 'a.jpg').read_bytes())}


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_import_stops_at_a_signal(
    number: signal.Signals,
    config: Config,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config.threads = 1
    many(tmp_path / 'pictures', 9)

    def interrupted(
        folder: str, on_error: Callable[[OSError], None] | None = None
    ) -> Iterator[str]:
        for position, path in enumerate(walk(folder)):
            if position == 1 and on_error is not None:
                os.kill(os.getpid(), number)
                os.kill(os.getpid(), number)
            yield path

    monkeypatch.setattr(import_module, 'walk', interrupted)
    assert import_folder(config, str(tmp_path / 'pictures')) == 128 + number
    out, err = capsys.readouterr()
    assert out == 'imported 2, already present 0, rejected 0\n'
    assert err == (
        'stopping after the files in progress\n'
        'asgilook: interrupted; run it again to resume\n'
    )
    assert len(files(config)) == 2


@pytest.mark.parametrize('path', ['images', 'images/..', '.', '/'])
def test_import_of_the_storage_itself(
    config: Config, tmp_path: Path, path: str
) -> None:
    os.mkdir(config.storage_path)
    with pytest.raises(ConfigError, match='storage folder'):
        import_folder(config, str(tmp_path / path))
    (tmp_path / 'link').symlink_to(config.storage_path)
    with pytest.raises(ConfigError, match='storage folder'):
        import_folder(config, str(tmp_path / 'link'))


@pytest.mark.parametrize(
    ('path', 'reason'),
    [('none', 'No such file or directory'), ('pictures/a.jpg', 'Not a directory')],
)
def test_import_of_an_invalid_folder(
    config: Config, folder: Path, path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        import_folder(config, str(folder.parent / path))


def test_import_without_a_storage(config: Config, folder: Path) -> None:
    Path(config.storage_path).touch()
    with pytest.raises(ConfigError, match='storage folder'):
        import_folder(config, str(folder))


@pytest.mark.integration
def test_import_command(tmp_path: Path) -> None:
    """Interrupt an import twice, and resume it, while a service lists the images."""
    folder = tmp_path / 'pictures'
    many(folder, 300)
    for number in range(5):
        (folder / f'{number}-bad').write_bytes(b'no picture' * number)
    with Server(tmp_path) as server:
        command = [sys.executable, '-m', 'asgilook', 'import', str(folder)]
        environ = {**os.environ, 'ASGI_LOOK_STORAGE_PATH': str(server.storage)}
        counts = []
        for number in (signal.SIGINT, signal.SIGTERM):
            target = len(server.files) + 20
            with Process(tmp_path, *command, environ=environ) as process:
                until(partial(has, server, target))
                assert process.stop(number) == 128 + number, process.log
            counts.append(check(process.log, server))
        assert counts[0][0] == counts[1][1] < 300
        done = run(*command[1:], storage_path=server.storage)
        assert done.returncode == 1
        imported, present, rejected = check(done.stdout, server)
        assert (imported + present, rejected) == (300, 5)
        assert done.stderr.count(': The file is no') == 4
        assert {image['id'] for image in server.images()} == {
            content_id(path.read_bytes()) for path in folder.glob('*.png')
        }


def has(server: Server, count: int) -> bool:
    return len(server.files) >= count


def check(log: str, server: Server) -> tuple[int, ...]:
    """Compare the summary with the list of the service; return its numbers."""
    assert not any(fault in log for fault in FAULTS), log
    numbers = SUMMARY.search(log)
    assert numbers is not None, log
    imported, present, rejected = map(int, numbers.groups())
    assert imported > 0
    assert len(server.images()) == len(server.files) == imported + present
    return imported, present, rejected


# Files of a folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder of files, to which the tests add more."""
    (tmp_path / 'b').mkdir()
    for name in ('b/2', 'b/1', 'a', 'c'):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def relative(tree: Path) -> list[str]:
    return [os.path.relpath(path, tree) for path in walk(str(tree))]


def test_walk_is_in_order(tree: Path) -> None:
    assert relative(tree) == ['a', 'c', 'b/1', 'b/2']


def test_walk_skips_hidden_files(tree: Path) -> None:
    (tree / '.git').mkdir()
    (tree / '.git' / 'a').touch()
    (tree / 'b' / '.3').touch()
    assert relative(tree) == ['a', 'c', 'b/1', 'b/2']


def test_walk_follows_links_to_files_only(tree: Path) -> None:
    (tree / 'folder').symlink_to(tree)
    (tree / 'file').symlink_to(tree / 'a')
    assert relative(tree) == ['a', 'c', 'file', 'b/1', 'b/2']


def test_walk_reports_unreadable_folders(tmp_path: Path) -> None:
    errors: list[OSError] = []
    assert list(walk(str(tmp_path / 'none'), errors.append)) == []
    assert [(ex.filename, ex.strerror) for ex in errors] == [
        (str(tmp_path / 'none'), 'No such file or directory')
    ]


def test_read_up_to_the_limit(tree: Path) -> None:
    path = str(tree / 'b' / '1')
    assert read(path, 3) == b'b/1'
    with pytest.raises(UploadTooLarge, match='has 3 bytes; the limit is 2 bytes'):
        read(path, 2)


def test_read_pipe_without_a_writer(tree: Path) -> None:
    os.mkfifo(tree / 'pipe')
    with pytest.raises(InvalidRequest, match='Not a regular file'):
        read(str(tree / 'pipe'), 9)


@pytest.mark.parametrize('path', ['/dev/zero', '/'])
def test_read_of_a_special_file(path: str) -> None:
    with pytest.raises((InvalidRequest, IsADirectoryError)):
        read(path, 9)


def test_read_empty_file(tree: Path) -> None:
    (tree / 'a').write_bytes(b'')
    with pytest.raises(InvalidRequest, match='is empty'):
        read(str(tree / 'a'), 9)


def test_read_file_longer_than_its_size() -> None:
    with pytest.raises(InvalidRequest, match='changed while'):
        read('/proc/self/status', 9)


def test_read_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / 'none'), 9)
