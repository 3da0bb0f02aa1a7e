from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import asgilook
from asgilook.cli import serve
from asgilook.cli.main import main

from ..servers import run

Captured = pytest.CaptureFixture[str]
Served = list[tuple[str, int, int]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Return the arguments of each call of `serve`, which does nothing."""
    served: Served = []

    def record(host: str, port: int, workers: int) -> int:
        served.append((host, port, workers))
        return 0

    monkeypatch.setattr(serve, 'serve', record)
    return served


def test_serve_is_the_default_command(served: Served) -> None:
    assert main([]) == main(['serve']) == 0
    assert served == [('127.0.0.1', 8000, 1)] * 2


def test_serve_options(served: Served) -> None:
    argv = ['--host', '0.0.0.0', '--port', '0', '--workers', '3']
    assert main(argv) == main(['serve', *argv]) == 0
    assert served == [('0.0.0.0', 0, 3)] * 2


@pytest.mark.parametrize(
    'argv',
    [
        ['--port', '65536'],
        ['--port', '-1'],
        ['--port', 'x'],
        ['--port', ''],
        ['--workers', '0'],
        ['--workers', '-1'],
        ['--workers', 'x'],
        ['other'],
        ['--other'],
        ['check', '--younger', 'nan'],
        ['check', '--younger', '-1'],
    ],
)
def test_bad_arguments(served: Served, capsys: Captured, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert raised.value.code == 2
    assert argv[-2 if len(argv) > 1 else 0] in capsys.readouterr().err
    assert served == []


@pytest.mark.parametrize('port', ['0', '65535'])
def test_port_limits(served: Served, port: str) -> None:
    assert main(['--port', port]) == 0
    assert served == [('127.0.0.1', int(port), 1)]


def test_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as raised:
        main(['--version'])
    assert raised.value.code == 0
    assert capsys.readouterr().out.strip() == asgilook.__version__


def test_config(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv('ASGI_LOOK_PAGE_SIZE', '7')
    monkeypatch.setenv('ASGI_LOOK_API_TOKEN', 's3cret')
    monkeypatch.setenv('ASGI_LOOK_REDIS_HOST', 'redis://:s3cret@cache')
    assert main(['config']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'ASGI_LOOK_PAGE_SIZE=7' in lines
    assert 'ASGI_LOOK_API_TOKEN=***' in lines
    assert 'ASGI_LOOK_REDIS_HOST=redis://:***@cache' in lines


def test_import_of_a_missing_folder(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path / 'images'))
    assert main(['import', str(tmp_path / 'none')]) == 2
    assert capsys.readouterr().err == (
        f'asgilook: {tmp_path}/none: No such file or directory\n'
    )


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, 'serve', interrupted)
    assert main([]) == 130


def test_bad_setting(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv('ASGI_LOOK_PAGE_SIZE', 'many')
    assert main(['config']) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("asgilook: ASGI_LOOK_PAGE_SIZE='many': ")
    assert captured.out == ''


def test_config_imports_no_server() -> None:
    code = 'from asgilook.cli.main import main; main(["config"]); import json, sys'
    shown = run('-c', f'{code}; print(json.dumps(sorted(sys.modules)))')
    imported = {*json.loads(shown.stdout.splitlines()[-1])}
    assert not imported & {'PIL', 'aioredis', 'falcon', 'sqlalchemy', 'uvicorn'}


@pytest.mark.parametrize(
    'command', ['serve', 'config', 'healthcheck', 'import', 'check']
)
def test_help(capsys: Captured, command: str) -> None:
    for argv in (['--help'], ['-h'], [command, '--help']):
        with pytest.raises(SystemExit) as raised:
            main(argv)
        assert raised.value.code == 0
        assert command in capsys.readouterr().out


def test_python_dash_m(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, 'argv', ['asgilook', 'config'])
    monkeypatch.delitem(sys.modules, 'asgilook.__main__', raising=False)
    with pytest.raises(SystemExit) as raised:
        runpy.run_module('asgilook', run_name='__main__', alter_sys=True)
    assert raised.value.code == 0
    assert 'ASGI_LOOK_STORAGE_PATH=' in capsys.readouterr().out


def test_import_of_main_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    # Not with runpy: coverage selects modules by the name that they run under.
    monkeypatch.delitem(sys.modules, 'asgilook.__main__', raising=False)
    importlib.import_module('asgilook.__main__')
    assert capsys.readouterr().out == ''


def test_closed_output_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `asgilook config | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, 'w') as output, monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', output)
        code = main(['config'])
    assert code == 1
