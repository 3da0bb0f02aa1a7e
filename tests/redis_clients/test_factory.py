from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from asgilook.config import Config, ConfigError
from asgilook.redis_clients.aioredis import AioredisDriver
from asgilook.redis_clients.factory import create_driver
from asgilook.redis_clients.redispy import RedisPyDriver

from ..conftest import no_redis
from ..servers import run


def configured(redis_host: Any) -> Config:
    config = Config({})
    config.redis_host = redis_host
    return config


def uninstall_redispy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide redis-py from imports."""
    for name in [
        name
        for name in sys.modules
        if name.startswith('asgilook.redis_clients.redispy')
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr('asgilook.redis_clients.redispy', raising=False)
    monkeypatch.setitem(sys.modules, 'redis', None)
    for name in [name for name in sys.modules if name.startswith('redis.')]:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    'url',
    [
        None,
        'redis://one',
        'redis://:s3cret@one',
        'rediss://one:6380/1',
        'unix:///run/redis.sock?password=s3cret',
    ],
)
def test_aioredis_is_the_default(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall_redispy(monkeypatch)
    driver = create_driver(configured(url))
    assert isinstance(driver, AioredisDriver)
    assert 's3cret' not in driver.address


REDISPY_URLS = [
    'redis://ada:s3cret@one',
    'rediss://ada:s3cret@one',
    'redis+sentinel://:s3cret@one/thumbs',
    'redis+cluster://:s3cret@one,two',
]


@pytest.mark.parametrize('url', REDISPY_URLS)
def test_redis_py_for_what_aioredis_lacks(url: str) -> None:
    driver = create_driver(configured(url))
    assert isinstance(driver, RedisPyDriver)
    assert driver.address == url.replace('s3cret', '***')


@pytest.mark.parametrize('url', REDISPY_URLS)
def test_missing_redis_py(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall_redispy(monkeypatch)
    with pytest.raises(ConfigError) as raised:
        create_driver(configured(url))
    shown = url.replace('s3cret', '***')
    assert str(raised.value) == (
        f'ASGI_LOOK_REDIS_HOST={shown!r}: needs redis: '
        "run pip install '.[redis]' in the project's folder"
    )


def test_missing_redis_py_stops_the_start() -> None:
    for start in (
        'from asgilook.__main__ import main; sys.exit(main([]))',
        'import asgilook.asgi',
    ):
        code = f'import sys; sys.modules["redis"] = None; {start}'
        ended = run('-c', code, redis_host=REDISPY_URLS[0])
        assert ended.returncode != 0
        (line,) = ended.stderr.splitlines()
        assert 'ASGI_LOOK_REDIS_HOST=' in line
        assert "needs redis: run pip install '.[redis]' in" in line


def test_redis_py_is_imported_only_if_needed() -> None:
    code = 'import sys, asgilook.asgi; sys.exit("redis" in sys.modules)'
    assert run('-c', code).returncode == 0


def test_first_start_shows_no_warning(tmp_path: Path) -> None:
    """Nothing is compiled yet, which is when Python warns about aioredis."""
    empty = f'pycache_prefix={tmp_path}'
    ended = run('-W', 'error', '-X', empty, '-c', 'import asgilook.asgi')
    assert (ended.returncode, ended.stderr) == (0, '')


def test_custom_pool_is_used_for_any_url() -> None:
    config = configured(REDISPY_URLS[0])
    config.create_redis_pool = no_redis
    assert isinstance(create_driver(config), AioredisDriver)


def test_redis_from_url_comes_first() -> None:
    config = configured('redis://one')
    assert config.redis_from_url is None
    config.create_redis_pool = no_redis
    config.redis_from_url = str
    assert isinstance(create_driver(config), RedisPyDriver)
