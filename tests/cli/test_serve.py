from __future__ import annotations

import json
import logging.config
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from asgilook.cli import serve as serve_module
from asgilook.cli.main import main
from asgilook.cli.serve import bind_error, serve

from ..servers import HOST, Server

Captured = pytest.CaptureFixture[str]
Check = Callable[[str, str, str], None]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the arguments of each run of uvicorn, which does nothing."""
    monkeypatch.setenv('ASGI_LOOK_STORAGE_PATH', str(tmp_path / 'images'))
    runs: list[dict[str, Any]] = []

    def run(app: str, **kwargs: Any) -> None:
        runs.append({'app': app, **kwargs})

    def supervise(config: uvicorn.Config) -> int:
        runs.append(vars(config))
        return 3

    monkeypatch.setattr(uvicorn, 'run', run)
    monkeypatch.setattr(serve_module, 'supervise', supervise)
    monkeypatch.setattr(serve_module, 'bind_error', lambda *_: None)
    return runs


def test_single_process(runs: list[dict[str, Any]]) -> None:
    assert serve('0.0.0.0', 80, 1) == 0
    assert runs[0]['app'] == 'asgilook.asgi:app'
    assert (runs[0]['host'], runs[0]['port']) == ('0.0.0.0', 80)
    assert runs[0]['lifespan'] == 'on'
    assert runs[0]['timeout_graceful_shutdown'] > 0


def test_workers(runs: list[dict[str, Any]]) -> None:
    assert serve('0.0.0.0', 80, 3) == 3
    assert runs[0]['app'] == 'asgilook.cli.supervisor:worker_app'
    assert (runs[0]['host'], runs[0]['port'], runs[0]['workers']) == ('0.0.0.0', 80, 3)
    assert runs[0]['factory']


def test_uvicorn_accepts_the_options(runs: list[dict[str, Any]]) -> None:
    serve('127.0.0.1', 8000, 1)
    config = uvicorn.Config(**runs[0] | {'log_config': None})
    config.load_app  # noqa: B018
    assert config.server_header is False


def test_log_of_the_service(runs: list[dict[str, Any]]) -> None:
    serve('127.0.0.1', 8000, 1)
    log_config = runs[0]['log_config']
    assert logging.config.DictConfigurator(log_config)
    assert log_config['loggers']['asgilook']['level'] == 'INFO'
    assert 'asgilook' not in uvicorn.config.LOGGING_CONFIG['loggers']


@pytest.mark.parametrize('form', ['text', 'json', 'none'])
def test_proxy_headers_are_read_for_the_access_log(
    runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv('ASGI_LOOK_ACCESS_LOG', form)
    serve('127.0.0.1', 8000, 1)
    assert runs[0]['proxy_headers'] is (form != 'none')


@pytest.mark.integration
def test_client_behind_a_proxy_is_logged(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        server.ask('GET', '/images', X_Forwarded_For='203.0.113.7')
        server.logged(r'203\.0\.113\.7 "GET /images" 200')


def test_bad_setting_stops_the_start(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.setenv('ASGI_LOOK_PAGE_SIZE', 'many')
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("asgilook: ASGI_LOOK_PAGE_SIZE='many': ")
    assert (captured.out, runs) == ('', [])


@pytest.fixture
def stops(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> Check:
    """Return a check that a setting stops the start with one line on the problem."""

    def check(name: str, value: str, problem: str) -> None:
        monkeypatch.setenv(name, value)
        assert main(['config']) == 0
        assert main([]) == 2
        assert capsys.readouterr().err == f'asgilook: {name}={value!r}: {problem}\n'
        assert runs == []

    return check


def test_folder_that_cannot_be_created_stops_the_start(
    stops: Check, tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    path = f'{tmp_path}/file/images'
    stops('ASGI_LOOK_STORAGE_PATH', path, 'Not a directory')


def test_file_instead_of_a_folder_stops_the_start(stops: Check, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    stops('ASGI_LOOK_STORAGE_PATH', f'{tmp_path}/file', 'is not a folder')


def test_folder_url_that_cannot_be_created_stops_the_start(
    stops: Check, tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    url = f'file://{tmp_path}/file/images'
    stops('ASGI_LOOK_STORAGE_URL', url, 'Not a directory')


def test_incompatible_settings_stop_the_start(
    stops: Check,
) -> None:
    problem = 'also requires a database: set ASGI_LOOK_DATABASE_URL'
    stops('ASGI_LOOK_STORAGE_URL', 's3://images', problem)


def test_unusable_database_stops_the_start(stops: Check, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_text('This is text.' * 100)
    stops('ASGI_LOOK_DATABASE_URL', f'sqlite://{path}', 'file is not a database')


def test_unreachable_database_does_not_stop_the_start(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    url = 'postgresql://127.0.0.1:1/images'
    monkeypatch.setenv('ASGI_LOOK_DATABASE_URL', url)
    assert (main([]), len(runs)) == (0, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert f'index {url};' in line


@pytest.mark.integration
@pytest.mark.parametrize('workers', ['1', '3'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_exit_code_after_a_signal(
    tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    with Server(tmp_path, '--workers', workers) as server:
        assert server.stop(number) == 0
        completed = 'Application shutdown complete'
        assert server.log.count(completed) == int(workers)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_exit_code_after_a_signal_before_the_server_starts(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, '_exit', codes.append)
    monkeypatch.setattr(uvicorn, 'run', lambda *_, **__: signal.raise_signal(number))
    before = signal.getsignal(number)
    assert serve('127.0.0.1', 8000, 1) == 0
    assert codes == [0]
    assert signal.getsignal(number) is before


def test_start_logs_a_summary_and_misspelled_settings(
    runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv('ASGILOOK_API_TOKEN', 's3cret')
    assert serve('127.0.0.1', 8000, 1) == 0
    summary, warning = capsys.readouterr().err.splitlines()
    assert summary.endswith('gallery http://127.0.0.1:8000/')
    assert warning.endswith(
        'ASGILOOK_API_TOKEN is not a setting; did you mean ASGI_LOOK_API_TOKEN?'
    )
    assert 's3cret' not in summary + warning


def test_exit_of_uvicorn_means_that_it_could_not_start(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(app: str, **kwargs: Any) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(uvicorn, 'run', run)
    assert serve('127.0.0.1', 8000, 1) == 3
    assert runs == []


@pytest.mark.parametrize('workers', [1, 2])
def test_port_in_use(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    workers: int,
) -> None:
    monkeypatch.setattr(serve_module, 'bind_error', bind_error)
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        assert serve(HOST, port, workers) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f'cannot listen on port {port} of {HOST}: Address already in use; '
        'choose another --port or --host'
    )
    assert runs == []


def test_bind_error() -> None:
    assert bind_error(HOST, 0) is None
    unknown = bind_error('no.such.host.invalid', 0)
    assert isinstance(unknown, OSError)
    assert unknown.strerror


@pytest.mark.parametrize('level', ['WARNING', 'ERROR'])
def test_every_library_logs_in_the_same_format(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    level: str,
) -> None:
    monkeypatch.setenv('ASGI_LOOK_ACCESS_LOG', 'json')
    serve('127.0.0.1', 8000, 1)
    for name in ('library', 'uvicorn.error', 'asgilook.store', 'aioredis'):
        logging.getLogger(name).log(logging.getLevelName(level), 'of %s', name)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = [line['logger'] for line in lines if line['level'] == level]
    names = ['library', 'uvicorn.error', 'asgilook.store']
    assert said == (names if level == 'WARNING' else [*names, 'aioredis'])
