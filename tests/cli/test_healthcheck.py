from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from asgilook.cli import healthcheck
from asgilook.cli.healthcheck import check_health, wait_for_health
from asgilook.cli.main import main

from ..servers import HOST, Server, run

Captured = pytest.CaptureFixture[str]


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Listen for one request and respond with these bytes; yield the URL."""
    with socket.create_server((HOST, 0)) as server:

        def talk() -> None:
            client = server.accept()[0]
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        yield f'http://{HOST}:{server.getsockname()[1]}'
        thread.join()


@pytest.mark.integration
def test_service(tmp_path: Path) -> None:
    with Server(tmp_path, redis_host='none') as server:
        url = f'http://{HOST}:{server.port}'
        for base in (url, f'{url}/'):
            assert check_health(base) == (
                True,
                'ready (storage up, redis none)',
            )
        command = run('-m', 'asgilook', 'healthcheck', '--url', url)
        assert command.stdout == 'ready (storage up, redis none)\n'
        assert (command.returncode, command.stderr) == (0, '')
        assert check_health(f'{url}/elsewhere') == (
            False,
            'HTTP status 404',
        )
        shutil.rmtree(server.storage)
        assert check_health(url) == (
            False,
            'unready (storage down, redis none)',
        )


@pytest.mark.integration
def test_wait(tmp_path: Path) -> None:
    database = f'sqlite://{tmp_path}/index.db'
    with Server(tmp_path, redis_host='none', database_url=database) as server:
        url = f'http://{HOST}:{server.port}'
        shutil.rmtree(server.storage)
        unready = (False, 'unready (storage down, database up, redis none)')
        assert wait_for_health(url, 0) == unready

        def repair(seconds: float) -> None:
            server.storage.mkdir(exist_ok=True)

        assert wait_for_health(url, 60, sleep=repair) == (
            True,
            'ready (storage up, database up, redis none)',
        )
        command = run('-m', 'asgilook', 'healthcheck', '--url', url, '--wait', '60')
        assert (command.returncode, command.stderr) == (0, '')


def test_no_service(capsys: Captured) -> None:
    assert main(['healthcheck', '--url', f'http://{HOST}:1']) == 1
    captured = capsys.readouterr()
    assert captured.out == 'no response: [Errno 111] Connection refused\n'
    assert captured.err == ''


def test_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, 'TIMEOUT', 0.01)
    with closing(socket.create_server((HOST, 0))) as server:
        url = f'http://{HOST}:{server.getsockname()[1]}'
        assert check_health(url) == (False, 'no response: timed out')


@pytest.mark.parametrize(
    ('answer', 'state'),
    [
        (b'nonsense\r\n\r\n', (False, 'no response: nonsense\r\n')),
        (b'HTTP/1.1 200 OK\r\n\r\n{}', (True, 'HTTP status 200')),
        (b'HTTP/1.1 200 OK\r\n\r\n[]', (True, 'HTTP status 200')),
        (b'HTTP/1.1 503 No\r\n\r\n\xff', (False, 'HTTP status 503')),
    ],
)
def test_other_service(answer: bytes, state: tuple[bool, str]) -> None:
    with answering(answer) as url:
        ready, line = check_health(url)
    assert ready is state[0]
    assert line.strip() == state[1].strip()


@pytest.mark.parametrize(
    'url', ['', 'here', 'ftp://here', 'http://', 'http://a:b', 'http://a b', 'http://[']
)
def test_invalid_url(url: str, capsys: Captured) -> None:
    assert main(['healthcheck', '--url', url]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f'asgilook: --url {url!r}: ')
    assert captured.out == ''
