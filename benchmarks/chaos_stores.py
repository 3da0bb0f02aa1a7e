"""Object stores that `benchmarks.chaos` breaks and repairs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tests.object_stores import KEYS, SeaweedFS, connect, free_ports, url_of
from tests.servers import HOST, Process, free_port, until

from .chaos_servers import Fault, Restartable, frozen

BUCKET = 'chaos'


class ObjectStore(Restartable):
    """An S3 server with a bucket."""

    def __init__(self, port: int, make: Callable[[], Process]) -> None:
        super().__init__(make, signal.SIGKILL)
        self.url = url_of(BUCKET, f'http://{HOST}:{port}')
        self._client = connect(f'http://{HOST}:{port}')

    def start(self) -> None:
        """Start it, and wait until objects can be stored."""
        super().start()
        with contextlib.suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            where = {'LocationConstraint': KEYS['region']}
            self._client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
        until(self._accepts_objects, 60)

    def objects(self) -> set[str]:
        """Return the names of all objects, without their prefix."""
        pages = self._client.get_paginator('list_objects_v2').paginate(Bucket=BUCKET)
        return {
            found['Key'].removeprefix('a/b/')
            for page in pages
            for found in page.get('Contents', ())
        }

    def _accepts_objects(self) -> bool:
        try:
            self._client.put_object(Bucket=BUCKET, Key='probe', Body=b'probe')
        except (BotoCoreError, ClientError):
            return False
        return True


class RestartableSeaweedFS(ObjectStore):
    """SeaweedFS, with its files below a folder."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(4)
        super().__init__(ports[-1], partial(SeaweedFS, folder, ports))
        self._keys = folder / 's3.json'

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Take the key's permission to write."""
        self._allow('Read', 'List')
        until(lambda: not self._accepts_objects())
        yield
        self._allow('Admin', 'Read', 'Write', 'List')
        until(self._accepts_objects)

    def faults(self, target: str) -> list[Fault]:
        return [*super().faults(target), Fault(target, 'read-only', self.read_only)]

    def _allow(self, *actions: str) -> None:
        config = json.loads(self._keys.read_text())
        config['identities'][0]['actions'] = actions
        self._keys.write_text(json.dumps(config))
        os.kill(self.pid, signal.SIGHUP)


class MotoServer(Process):
    ready = 'Running on'


class Moto(ObjectStore):
    """moto's server, in memory: killed, it would lose what it has acknowledged."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = sys.executable, '-m', 'moto.server', '-H', HOST, '-p', str(port)
        super().__init__(port, partial(MotoServer, folder, *command))

    def faults(self, target: str) -> list[Fault]:
        return [Fault(target, 'frozen', partial(frozen, self._pids))]


def object_store(folder: Path) -> ObjectStore:
    """Return SeaweedFS, or moto's server where that is not installed."""
    beside = os.path.dirname(sys.executable)
    if shutil.which('weed') or shutil.which('weed', path=beside):
        return RestartableSeaweedFS(folder)
    return Moto(folder)
