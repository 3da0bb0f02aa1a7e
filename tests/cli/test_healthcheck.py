from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from asgilook.cli import healthcheck
from asgilook.cli.main import main

from ..servers import HOST, Server, run


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Listen for one request, and send these bytes; return the URL."""
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


def test_healthcheck_of_a_service(tmp_path: Path) -> None:
    with Server(tmp_path, redis_host='none') as server:
        url = f'http://{HOST}:{server.port}'
        for base in (url, f'{url}/'):
            assert healthcheck.ask(base) == (True, 'ready (storage up, redis none)')
        command = run('-m', 'asgilook', 'healthcheck', '--url', url)
        assert command.stdout == 'ready (storage up, redis none)\n'
        assert (command.returncode, command.stderr) == (0, '')
        assert healthcheck.ask(f'{url}/elsewhere') == (False, 'HTTP status 404')
        shutil.rmtree(server.storage)
        assert healthcheck.ask(url) == (False, 'unready (storage down, redis none)')


def test_healthcheck_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['healthcheck', '--url', f'http://{HOST}:1']) == 1
    captured = capsys.readouterr()
    assert captured.out == 'no answer: [Errno 111] Connection refused\n'
    assert captured.err == ''


def test_healthcheck_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, 'SECONDS', 0.01)
    with closing(socket.create_server((HOST, 0))) as server:
        url = f'http://{HOST}:{server.getsockname()[1]}'
        assert healthcheck.ask(url) == (False, 'no answer: timed out')


@pytest.mark.parametrize(
    ('answer', 'state'),
    [
        (b'nonsense\r\n\r\n', (False, 'no answer: nonsense\r\n')),
        (b'HTTP/1.1 200 OK\r\n\r\n{}', (True, 'HTTP status 200')),
        (b'HTTP/1.1 200 OK\r\n\r\n[]', (True, 'HTTP status 200')),
        (b'HTTP/1.1 503 No\r\n\r\n\xff', (False, 'HTTP status 503')),
    ],
)
def test_healthcheck_of_something_else(answer: bytes, state: tuple[bool, str]) -> None:
    with answering(answer) as url:
        ready, line = healthcheck.ask(url)
    assert ready is state[0]
    assert line.strip() == state[1].strip()


@pytest.mark.parametrize(
    'url', ['', 'here', 'ftp://here', 'http://', 'http://a:b', 'http://a b', 'http://[']
)
def test_healthcheck_of_no_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['healthcheck', '--url', url]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f'asgilook: --url {url!r}: ')
    assert captured.out == ''
