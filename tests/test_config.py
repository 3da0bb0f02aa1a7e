from __future__ import annotations

import os
import uuid
from typing import Any

import aioredis
import pytest

from asgilook.backend_urls import redact
from asgilook.config import (
    Config,
    ConfigError,
    describe,
    misspelled_variables,
    settings,
)

# The defaults of the contract, on which callers rely.
DEFAULTS = {
    'storage_path': '/tmp/asgilook',
    'storage_url': None,
    'database_url': None,
    'redis_host': 'redis://localhost',
    'min_thumb_size': 64,
    'max_upload_size': 32 * 1024**2,
    'max_pixels': 50_000_000,
    'jpeg_quality': 85,
    'cache_ttl': 3600,
    'cache_body_size': 1024**2,
    'cache_memory': 64 * 1024**2,
    'redis_timeout': 0.25,
    'threads': os.cpu_count(),
    'queue_size': 64,
    'render_timeout': 30,
    'body_timeout': 30,
    'page_size': 1000,
    'api_token': None,
    'cors_origins': None,
    'access_log': 'text',
}


def variable(name: str) -> str:
    return f'ASGI_LOOK_{name.upper()}'


def test_defaults() -> None:
    assert {field.name for field in settings()} == set(DEFAULTS)
    config = Config({})
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


def test_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ASGI_LOOK_PAGE_SIZE', '7')
    assert Config().page_size == 7
    assert Config({}).page_size == 1000


def test_other_variables_are_ignored() -> None:
    assert (
        Config({'PAGE_SIZE': '7', 'ASGILOOK_X': '7', 'PATH': '/bin'}).page_size == 1000
    )


def test_config_creates_no_folder(tmp_path: Any) -> None:
    Config({'ASGI_LOOK_STORAGE_PATH': str(tmp_path / 'images')})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('name', 'text', 'value'),
    [
        ('storage_path', '/srv/images', '/srv/images'),
        ('redis_host', 'none', None),
        ('redis_host', 'None', None),
        ('redis_host', 'redis://:pw@cache:6380/1', 'redis://:pw@cache:6380/1'),
        ('redis_host', 'rediss://cache', 'rediss://cache'),
        ('redis_host', 'unix:///run/redis.sock', 'unix:///run/redis.sock'),
        ('redis_host', 'redis+cluster://one:1,two', 'redis+cluster://one:1,two'),
        ('redis_host', 'redis+sentinel://one/thumbs', 'redis+sentinel://one/thumbs'),
        ('min_thumb_size', '1', 1),
        ('min_thumb_size', ' 9 ', 9),
        ('max_upload_size', '4096', 4096),
        ('max_upload_size', '512 KiB', 512 * 1024),
        ('max_upload_size', '3MiB', 3 * 1024**2),
        ('max_upload_size', '1 GiB', 1024**3),
        ('cache_memory', '0', 0),
        ('jpeg_quality', '1', 1),
        ('jpeg_quality', '100', 100),
        ('redis_timeout', '1e-3', 0.001),
        ('render_timeout', '86400', 86400),
        ('threads', '1', 1),
        ('threads', '256', 256),
        ('threads', 'number of CPUs', os.cpu_count()),
        ('queue_size', '0', 0),
        ('page_size', str(2**53), 2**53),
        ('api_token', 'None', None),
        ('api_token', 's3cret', 's3cret'),
        ('cors_origins', '*', '*'),
        ('cors_origins', 'http://a.example', ['http://a.example']),
        (
            'cors_origins',
            'https://a.example, http://b.example:8000',
            ['https://a.example', 'http://b.example:8000'],
        ),
        (
            'cors_origins',
            'HTTPS://A.Example,https://b.example:443,http://c.example:80',
            ['https://a.example', 'https://b.example', 'http://c.example'],
        ),
        (
            'cors_origins',
            'http://a.example:443,https://[::A]:0080',
            ['http://a.example:443', 'https://[::a]:80'],
        ),
        ('access_log', 'json', 'json'),
        ('access_log', 'none', 'none'),
    ],
)
def test_good_value(name: str, text: str, value: Any) -> None:
    assert getattr(Config({variable(name): text}), name) == value


@pytest.mark.parametrize('name', DEFAULTS)
def test_empty_value_is_the_default(name: str) -> None:
    for text in ('', '  '):
        assert getattr(Config({variable(name): text}), name) == DEFAULTS[name]


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('redis_host', 'http://localhost'),
        ('redis_host', 'redis://localhost:port'),
        ('redis_host', 'redis://localhost:65536'),
        ('redis_host', 'redis+sentinel://one'),
        ('redis_host', 'redis+cluster://one:0'),
        ('redis_host', 'redis+tls://one'),
        ('min_thumb_size', '0'),
        ('min_thumb_size', '-1'),
        ('min_thumb_size', '1.5'),
        ('min_thumb_size', '1_000'),
        ('min_thumb_size', '\u0661'),
        ('max_upload_size', '-1'),
        ('max_upload_size', '1 MB'),
        ('max_upload_size', '1  MiB'),
        ('max_upload_size', 'MiB'),
        ('max_pixels', '0'),
        ('max_pixels', str(2**53 + 1)),
        ('jpeg_quality', '0'),
        ('jpeg_quality', '101'),
        ('cache_ttl', '0'),
        ('redis_timeout', '0'),
        ('redis_timeout', '-1'),
        ('redis_timeout', 'nan'),
        ('redis_timeout', 'inf'),
        ('redis_timeout', 'soon'),
        ('render_timeout', '86401'),
        ('threads', '0'),
        ('threads', '257'),
        ('queue_size', '-1'),
        ('page_size', '0'),
        ('render_timeout', '30s'),
        ('cors_origins', 'a.example'),
        ('cors_origins', 'https://a.example/'),
        ('cors_origins', 'https://a.example,'),
        ('cors_origins', 'https://a.example:'),
        ('cors_origins', 'https://a.example:b'),
        # Its lower case is ASCII, unlike the letter itself.
        ('cors_origins', 'https://\u212a.example'),
        ('access_log', 'yes'),
    ],
)
def test_bad_value_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config({variable(name): text})
    message = str(raised.value)
    assert message.startswith(f'{variable(name)}={text!r}: ')
    assert message.partition(': ')[2]


@pytest.mark.parametrize(
    ('name', 'advice'),
    [
        ('PAGESIZE', 'did you mean ASGI_LOOK_PAGE_SIZE?'),
        ('page_size', 'did you mean ASGI_LOOK_PAGE_SIZE?'),
        ('STORAGE', 'did you mean ASGI_LOOK_STORAGE_URL or ASGI_LOOK_STORAGE_PATH?'),
        ('CORS', 'did you mean ASGI_LOOK_CORS_ORIGINS?'),
        ('PORT', 'use the option --port of `asgilook serve`'),
        ('UPLOAD_LIMIT', '`asgilook config` lists all settings'),
        ('', '`asgilook config` lists all settings'),
    ],
)
def test_unknown_variable_is_named(name: str, advice: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config({f'ASGI_LOOK_{name}': '7'})
    assert str(raised.value) == f"ASGI_LOOK_{name}='7': unknown setting; {advice}"


@pytest.mark.parametrize('name', ['API_TOKENS', 'S3_SECRET', 'API_TOKN', 'TOKN'])
def test_unknown_variable_may_be_a_secret(name: str) -> None:
    with pytest.raises(ConfigError, match=r"='[*]{3}': unknown setting; ") as raised:
        Config({f'ASGI_LOOK_{name}': 's3cret'})
    assert 's3cret' not in str(raised.value)


@pytest.mark.parametrize('value', [',', ' , ', 't\u00f6ken', 'a\nb'])
def test_unusable_token_is_rejected_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^ASGI_LOOK_API_TOKEN='[*]{3}': must be"):
        Config({'ASGI_LOOK_API_TOKEN': value})


def test_misspelled_variables() -> None:
    environ = {
        'ASGI_LOOK_API_TOKEN': 'a',
        'ASGILOOK_API_TOKEN': 'b',
        'ASGILOOK_TOKEN': 'c',
        'asgi_look_page_size': '7',
        'ASGILOOK_HOME': '/home',
        'ASGILOOK': 'x',
        'PAGE_SIZE': '7',
    }
    assert misspelled_variables(environ) == {
        'ASGILOOK_API_TOKEN': 'ASGI_LOOK_API_TOKEN',
        'ASGILOOK_TOKEN': 'ASGI_LOOK_API_TOKEN',
        'asgi_look_page_size': 'ASGI_LOOK_PAGE_SIZE',
    }


@pytest.mark.parametrize(
    ('url', 'shown'),
    [
        ('redis://cache', 'redis://cache'),
        ('redis://cache:6379/0', 'redis://cache:6379/0'),
        ('redis://:s3cret@cache', 'redis://:***@cache'),
        ('redis://ada:s3cret@cache:6379/0', 'redis://ada:***@cache:6379/0'),
        ('redis://:s3c@cret@cache', 'redis://:***@cache'),
        ('redis://:s3c:cret@cache', 'redis://:***@cache'),
        ('redis://:s3c/r?e#t@cache', 'redis://:***@cache'),
        ('redis+sentinel://:s3cret@one,two/a', 'redis+sentinel://:***@one,two/a'),
        ('redis+cluster://ada:s3cret@[::1]:1', 'redis+cluster://ada:***@[::1]:1'),
        ('redis://cache?password=s3cret', 'redis://cache?password=***'),
        ('redis://cache?db=1&password=s3cret', 'redis://cache?db=1&password=***'),
        ('unix:///a.sock?password=s3cret&db=1', 'unix:///a.sock?password=***&db=1'),
        ('postgresql://ada:s3/c?r#et@db/x', 'postgresql://ada:***@db/x'),
        (
            's3://a/b?secret_access_key=s3cret&region=c',
            's3://a/b?secret_access_key=***&region=c',
        ),
        ('none', 'none'),
    ],
)
def test_redacted_url(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_secrets_are_not_shown() -> None:
    shown = describe(Config({'ASGI_LOOK_API_TOKEN': 's3cret'}))
    assert 'ASGI_LOOK_API_TOKEN=***' in shown.splitlines()
    assert 's3cret' not in shown
    with pytest.raises(ConfigError) as raised:
        Config({'ASGI_LOOK_REDIS_HOST': 'redis://:s3cret@cache:port'})
    assert 's3cret' not in str(raised.value)


def test_description_can_be_read_again() -> None:
    config = Config({'ASGI_LOOK_PAGE_SIZE': '7', 'ASGI_LOOK_REDIS_HOST': 'none'})
    environ = dict(line.split('=', 1) for line in describe(config).splitlines())
    assert set(environ) == {variable(field.name) for field in settings()}
    again = Config(environ)
    for field in settings():
        assert getattr(again, field.name) == getattr(config, field.name)


def test_description_of_lists_can_be_read_again() -> None:
    environ = {'ASGI_LOOK_CORS_ORIGINS': 'https://a.example, https://b.example'}
    config = Config(environ)
    lines = dict(line.split('=', 1) for line in describe(config).splitlines())
    assert Config(lines).cors_origins == config.cors_origins


def test_uuid_generator_makes_random_uuids() -> None:
    made = {Config({}).uuid_generator() for _ in range(9)}
    assert len(made) == 9
    assert {value.version for value in made} == {4}
    assert all(isinstance(value, uuid.UUID) for value in made)


async def test_redis_pool_connects_at_its_first_command() -> None:
    config = Config({})
    assert await config.create_redis_pool(None) is None
    pool = await config.create_redis_pool('redis://127.0.0.1:1')
    assert isinstance(pool, aioredis.Redis)
    with pytest.raises(OSError, match='Connect call failed'):
        await pool.ping()
    pool.close()
    await pool.wait_closed()
