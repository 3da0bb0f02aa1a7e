"""Previews that a real service, without the privileges of root, finds damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from asgilook.storage.previews import FOLDER
from tests import samples
from tests.servers import Server, unprivileged, until
from tests.storage import test_previews as damages

pytestmark = pytest.mark.integration

Damage = Callable[[Path, dict[str, bytes]], None]


def unreadable(path: Path, others: dict[str, bytes]) -> None:
    path.chmod(0)


def unreadable_folder(path: Path, others: dict[str, bytes]) -> None:
    path.parent.chmod(0)


DAMAGES: list[Damage] = [
    damages.empty,
    damages.truncate,
    damages.fill,
    damages.swap,
    damages.requality,
    damages.remove,
    damages.directory,
    unreadable,
    unreadable_folder,
]


def ask_all(server: Server, uris: list[str]) -> list[tuple[int, str | None, bytes]]:
    answers = map(server.get, uris)
    return [(each.status, each.headers['ETag'], each.body) for each in answers]


def previews_made(server: Server) -> float:
    """Return how many previews requests have made."""
    name = 'asgilook_preview_duration_seconds_count{event="request"} '
    return float(server.get('/metrics').body.decode().partition(name)[2].split()[0])


def test_damaged_preview_changes_no_response(tmp_path: Path) -> None:
    """Each is made again, and the thumbnails of its image stay the same."""
    folder = tmp_path / 'images' / FOLDER
    with Server(tmp_path, jpeg_quality=60) as server:
        image = server.upload(damages.PHOTO)
        path: Path = folder / image['id']
        others = {'quality': path.read_bytes()}
        other = server.upload(samples.photo(1600, 1200, seed=1))
        others['image'] = (folder / other['id']).read_bytes()
    uris = [
        uri.replace('.jpeg', suffix)
        for uri in image['thumbnails']
        for suffix in ('.jpeg', '.webp')
    ]
    with Server(tmp_path, wrapper=unprivileged(), cache_memory=0) as server:
        expected = ask_all(server, uris)
        assert {status for status, _, _ in expected} == {200}
        content = path.read_bytes()
        assert content not in others.values()

        def is_made(count: float) -> bool:
            """Ask until no earlier render is shared."""
            assert ask_all(server, uris) == expected
            return previews_made(server) > count

        def is_restored() -> bool:
            assert ask_all(server, uris) == expected
            return path.is_file() and path.read_bytes() == content

        for damage in DAMAGES:
            count = previews_made(server)
            damage(path, others)
            until(partial(is_made, count))
            folder.chmod(0o755)
            if path.is_dir():
                shutil.rmtree(path)
            until(is_restored)
