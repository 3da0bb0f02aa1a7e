"""Server processes for the benchmarks."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from PIL import Image


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(('127.0.0.1', port)).close()
            return
        time.sleep(0.02)
    raise SystemExit(f'no server on port {port}')


@contextlib.contextmanager
def process(port: int, *command: str, **environ: str) -> Iterator[tuple[str, int]]:
    """Run a server; yield its URL and process id."""
    with subprocess.Popen(
        command,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            wait_for(port)
            yield f'http://127.0.0.1:{port}', running.pid
        finally:
            running.terminate()


def service(
    folder: str, *options: str, **settings: str
) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Run `python -m asgilook` on a storage folder, without Redis unless set."""
    port = free_port()
    settings = {
        'ASGI_LOOK_REDIS_HOST': 'none',
        'ASGI_LOOK_STORAGE_PATH': folder,
        'ASGI_LOOK_ACCESS_LOG': 'none',
        **settings,
    }
    command = [sys.executable, '-m', 'asgilook', '--port', str(port), *options]
    return process(port, *command, **settings)


def peak_rss(pid: int) -> float:
    """Return the peak memory of a process (VmHWM), in MB."""
    with open(f'/proc/{pid}/status') as status:
        match = re.search(r'VmHWM:\s+(\d+) kB', status.read())
    assert match
    return int(match[1]) / 1024


def encode(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=quality)
    return file.getvalue()
