"""Previews after kill -9 of a server that is taking uploads."""

from __future__ import annotations

import concurrent.futures
import http.client
import logging
import os
import random
import threading
import time
from pathlib import Path

import pytest

from asgilook.imaging import reduction, transform
from asgilook.storage.previews import FOLDER
from tests import samples
from tests.servers import Server, until

pytestmark = pytest.mark.integration

log = logging.getLogger(__name__)

# Set CRASH_KILLS for a longer run.
KILLS = int(os.environ.get('CRASH_KILLS', '3'))


def check(server: Server, acknowledged: set[str], checked: set[str]) -> None:
    """Check that nothing acknowledged is lost, and every thumbnail is right."""
    leftovers = [name for name in server.files if name.startswith('.asgilook-')]
    assert leftovers == []
    folder = server.storage / FOLDER
    if folder.exists():
        assert not [name for name in os.listdir(folder) if name.startswith('.')]
    listed = {image['id']: image for image in server.images()}
    assert acknowledged <= set(listed)
    for image_id in set(listed) - checked:
        uris = listed[image_id]['thumbnails']
        data = (server.storage / image_id).read_bytes()
        width, height = listed[image_id]['size']
        sizes = reduction.preview_sizes((width, height), 64)
        expected = transform.previews(
            data, sizes, quality=85, check_deadline=lambda: None
        )
        assert [server.get(uri).body for uri in uris] == expected
        checked.add(image_id)


def test_previews_after_kills(tmp_path: Path) -> None:
    bodies = [
        samples.photo(1600, 1200),
        samples.camera(samples.scene(1600, 1200), 6),
        samples.photo(1601, 1201),
    ]
    rng = random.Random(9)
    acknowledged: set[str] = set()
    checked: set[str] = set()
    for number in range(KILLS + 1):
        with Server(tmp_path, page_size=10**6) as server:
            check(server, acknowledged, checked)
            if number == KILLS:
                break
            upload_until_killed(server, bodies, acknowledged, rng)
    log.info('%d images are stored', len(checked))


def upload_until_killed(
    server: Server, bodies: list[bytes], acknowledged: set[str], rng: random.Random
) -> None:
    over = threading.Event()
    enough = len(acknowledged) + 3

    def upload(seed: int) -> None:
        choices = random.Random(seed)
        while not over.is_set():
            try:
                answer = server.ask('POST', '/images', choices.choice(bodies))
            except (OSError, http.client.HTTPException):
                continue
            acknowledged.add(answer.json['id'])

    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        for seed in range(3):
            executor.submit(upload, seed)
        until(lambda: len(acknowledged) >= enough, 30)
        time.sleep(rng.uniform(0, 0.1))  # at an arbitrary moment
        server.kill()
        over.set()
