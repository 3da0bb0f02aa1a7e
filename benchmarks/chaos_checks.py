"""Checks of `benchmarks.chaos`, once all faults are over."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import Any, NamedTuple

from tests.servers import FAULTS, Server

from .chaos_clients import TOKEN, Connection
from .chaos_ledger import Ledger, Picture, pixels
from .chaos_stores import ObjectStore

# Growth of a worker between the first fault and the end of the load.
MAX_MEMORY = 48
MAX_FILES = 48


class Usage(NamedTuple):
    """Memory in MB, and number of open files, of a process."""

    memory: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        with open(f'/proc/{pid}/status') as status:
            memory = re.search(r'VmRSS:\s+(\d+) kB', status.read())
        assert memory
        return cls(int(memory[1]) // 1024, len(os.listdir(f'/proc/{pid}/fd')))

    def has_grown(self, old: Usage) -> bool:
        return (
            self.memory > old.memory + MAX_MEMORY or self.files > old.files + MAX_FILES
        )


class Checks:
    """Compares a service with the ledger.

    Args:
        server: the service, with a load of nothing else.
        ledger: what was acknowledged, and where violations are recorded.
        when: a word for their messages.
    """

    def __init__(self, server: Server, ledger: Ledger, when: str) -> None:
        self._server = server
        self._ledger = ledger
        self._when = when
        self._listed: dict[str, Any] = {}

    def run(self) -> None:
        """Check that what was acknowledged is so, and nothing else is listed."""
        self._listed = self._list()
        for picture in self._ledger.pictures:
            for image in picture.images.values():
                if picture.deleted:
                    self._check_deleted(image)
                elif not picture.doomed or image['id'] in self._listed:
                    self._check_stored(picture, image)
        self._check_unknown()
        for fault in FAULTS:
            if fault in self._server.log:
                self._violated(f'{fault} in the log')

    def check_files(self, store: ObjectStore | None) -> None:
        """Check that exactly the listed images are stored; after `run`."""
        names = set(os.listdir(self._server.storage)) - {'.previews'}
        if store is not None:
            objects = {name.removesuffix('.jpeg') for name in store.objects()}
            # NOTE(crashes): objects that are not listed may remain.
            names |= objects & self._listed.keys()
        if names != self._listed.keys():
            self._violated(f'files and list differ: {names ^ self._listed.keys()}')

    def ask(self, method: str, path: str, body: bytes = b'') -> tuple[int, bytes]:
        """Send a request on a new connection, and so to any worker; raises `Lost`."""
        connection = Connection(self._server.port, self._ledger)
        try:
            return connection.ask('check', method, path, body, TOKEN)
        finally:
            connection.close()

    def _violated(self, message: str) -> None:
        self._ledger.violated(f'{self._when}: {message}')

    def _list(self) -> dict[str, Any]:
        images: dict[str, Any] = {}
        after = ''
        while True:
            status, data = self.ask('GET', f'/images?limit=500{after}')
            page = json.loads(data)
            if status != 200 or not page:
                return images
            images.update((image['id'], image) for image in page)
            after = f'&after={page[-1]["id"]}'

    def _check_stored(self, picture: Picture, image: Any) -> None:
        if self._listed.get(image['id']) != image:
            self._violated(f'stored, but not listed: {image}')
        status, body = self.ask('GET', image['image'])
        if status == 200:
            self._ledger.check_bytes(picture, image['image'], body)
        else:
            self._violated(f'stored, but {status}: {image}')

    def _check_deleted(self, image: Any) -> None:
        if image['id'] in self._listed:
            self._violated(f'deleted, but listed: {image}')
        for uri in (image['image'], image['thumbnails'][0]):
            status, _ = self.ask('GET', uri)
            if status != 404:
                self._violated(f'deleted, but {status}: {uri}')

    def _check_unknown(self) -> None:
        """Check that each image is of an upload, and none is there too often."""
        pictures = self._ledger.pictures
        acknowledged = {image_id for picture in pictures for image_id in picture.images}
        found: Counter[str] = Counter()
        for image_id in self._listed.keys() - acknowledged:
            status, body = self.ask('GET', self._listed[image_id]['image'])
            if status == 200:
                found[pixels(body)] += 1
            else:
                self._violated(f'listed, but {status}: {image_id}')
        for picture in pictures:
            uploads = 1 if picture.key else picture.attempts
            if found.pop(picture.pixels, 0) > uploads - len(picture.images):
                self._violated(f'stored twice: {picture.images}')
        if found:
            self._violated(f'{found.total()} images that nobody has uploaded')
