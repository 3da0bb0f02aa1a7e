from __future__ import annotations

import logging.config
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import asgilook
from asgilook.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the arguments of each `uvicorn.run`, which does nothing."""
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path / 'images'))
    runs: list[dict[str, Any]] = []

    def run(app: str, **kwargs: Any) -> None:
        runs.append({'app': app, **kwargs})

    monkeypatch.setattr(uvicorn, 'run', run)
    return runs


def test_serve_is_the_default(runs: list[dict[str, Any]]) -> None:
    assert main([]) == main(['serve']) == 0
    assert runs[0] == runs[1]
    assert runs[0]['app'] == 'asgilook.asgi:app'
    assert (runs[0]['host'], runs[0]['port']) == ('127.0.0.1', 8000)
    assert runs[0]['workers'] == 1
    assert runs[0]['lifespan'] == 'on'
    assert runs[0]['timeout_graceful_shutdown'] > 0


def test_serve_options(runs: list[dict[str, Any]]) -> None:
    argv = ['--host', '0.0.0.0', '--port', '0', '--workers', '3']
    assert main(argv) == 0
    assert (runs[0]['host'], runs[0]['port'], runs[0]['workers']) == ('0.0.0.0', 0, 3)


def test_serve_with_settings_that_uvicorn_takes(runs: list[dict[str, Any]]) -> None:
    main([])
    config = uvicorn.Config(**runs[0] | {'log_config': None})
    config.load_app  # noqa: B018
    assert config.server_header is False


def test_serve_logs_the_service(runs: list[dict[str, Any]]) -> None:
    main([])
    log_config = runs[0]['log_config']
    assert logging.config.DictConfigurator(log_config)
    assert log_config['loggers']['asgilook']['level'] == 'INFO'
    assert 'asgilook' not in uvicorn.config.LOGGING_CONFIG['loggers']


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
def test_bad_arguments(
    runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert raised.value.code == 2
    assert argv[-2 if len(argv) > 1 else 0] in capsys.readouterr().err
    assert runs == []


@pytest.mark.parametrize('port', ['0', '65535'])
def test_port_limits(runs: list[dict[str, Any]], port: str) -> None:
    assert main(['--port', port]) == 0
    assert runs[0]['port'] == int(port)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(['--version'])
    assert raised.value.code == 0
    assert capsys.readouterr().out.strip() == asgilook.__version__


def test_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('ASGI_LOOK_PAGE_SIZE', '7')
    monkeypatch.setenv('ASGI_LOOK_API_TOKEN', 's3cret')
    monkeypatch.setenv('ASGI_LOOK_REDIS_HOST', 'redis://:s3cret@cache')
    assert main(['config']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'ASGI_LOOK_PAGE_SIZE=7' in lines
    assert 'ASGI_LOOK_API_TOKEN=***' in lines
    assert 'ASGI_LOOK_REDIS_HOST=redis://:***@cache' in lines


@pytest.mark.parametrize('argv', [[], ['config']])
def test_bad_setting_stops_the_start(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
) -> None:
    monkeypatch.setenv('ASGI_LOOK_PAGE_SIZE', 'many')
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("asgilook: ASGI_LOOK_PAGE_SIZE='many': ")
    assert (captured.out, runs) == ('', [])


@pytest.fixture
def stops(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str, str, str], None]:
    """Return a check that a setting stops the start, with what problem, in one line."""

    def check(name: str, value: str, problem: str) -> None:
        monkeypatch.setenv(name, value)
        assert main(['config']) == 0
        assert main([]) == 2
        assert capsys.readouterr().err == f'asgilook: {name}={value!r}: {problem}\n'
        assert runs == []

    return check


def test_folder_that_cannot_be_made_stops_the_start(
    stops: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    path = f'{tmp_path}/file/images'
    stops('ASGI_LOOK_STORAGE_PATH', path, 'Not a directory')


def test_folder_of_a_url_that_cannot_be_made_stops_the_start(
    stops: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    url = f'file://{tmp_path}/file/images'
    stops('ASGI_LOOK_STORAGE_URL', url, 'Not a directory')


def test_settings_that_do_not_go_together_stop_the_start(
    stops: Callable[[str, str, str], None],
) -> None:
    problem = 'needs a database too: set ASGI_LOOK_DATABASE_URL'
    stops('ASGI_LOOK_STORAGE_URL', 's3://images', problem)


def test_import(runs: list[dict[str, Any]], capsys: Captured, tmp_path: Path) -> None:
    assert main(['import', str(tmp_path / 'none')]) == 2
    assert capsys.readouterr().err == (
        f'asgilook: {tmp_path}/none: No such file or directory\n'
    )


def test_interrupt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path / 'images'))
    monkeypatch.setattr(uvicorn, 'run', interrupted)
    assert main([]) == 130


@pytest.mark.parametrize('command', ['serve', 'config', 'healthcheck', 'import'])
def test_help(capsys: Captured, command: str) -> None:
    for argv in (['--help'], ['-h'], [command, '--help']):
        with pytest.raises(SystemExit) as raised:
            main(argv)
        assert raised.value.code == 0
        assert command in capsys.readouterr().out


def test_database_that_cannot_be_used_stops_the_start(
    stops: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    path = tmp_path / 'file'
    path.write_text('This is text.' * 100)
    stops('ASGI_LOOK_DATABASE_URL', f'sqlite://{path}', 'file is not a database')


def test_database_that_is_down_does_not_stop_the_start(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = 'postgresql://127.0.0.1:1/images'
    monkeypatch.setenv('ASGI_LOOK_DATABASE_URL', url)
    assert (main([]), capsys.readouterr().err, len(runs)) == (0, '', 1)


def test_python_dash_m(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', ['asgilook', 'config'])
    monkeypatch.delitem(sys.modules, 'asgilook.__main__', raising=False)
    with pytest.raises(SystemExit) as raised:
        runpy.run_module('asgilook', run_name='__main__', alter_sys=True)
    assert raised.value.code == 0
    assert 'ASGI_LOOK_STORAGE_PATH=' in capsys.readouterr().out


def test_output_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `asgilook config | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, 'w') as output, monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', output)
        code = main(['config'])
    assert code == 1
