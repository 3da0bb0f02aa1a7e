from __future__ import annotations

import logging

import pytest

from asgilook import __version__
from asgilook.cli.summary import find_redis, log_advice, summarize
from asgilook.config import Config

from ..servers import NO_REDIS


def test_defaults() -> None:
    assert summarize(Config({}), redis_state='up', host='127.0.0.1', port=8000) == (
        f'asgilook {__version__}: storage /tmp/asgilook; index in memory; '
        'Redis redis://localhost (found); uploads open to everyone, deletions disabled '
        '(no token is set); gallery http://127.0.0.1:8000/'
    )


def test_remote_parts_without_secrets() -> None:
    config = Config(
        {
            'ASGI_LOOK_STORAGE_URL': 's3://images/a?region=x&access_key_id=k'
            '&secret_access_key=s3cret',
            'ASGI_LOOK_DATABASE_URL': 'postgresql://ada:s3cret@db/images',
            'ASGI_LOOK_REDIS_HOST': 'rediss://ada:s3cret@cache',
            'ASGI_LOOK_API_TOKEN': 's3cret',
        }
    )
    line = summarize(config, redis_state='down', host='::1', port=80)
    assert 'storage s3://images/a?region=x' in line
    assert (
        'index postgresql://ada:***@db/images; Redis rediss://ada:***@cache (not'
        in line
    )
    assert 'uploads and deletions need a token; gallery http://[::1]:80/' in line
    assert 's3cret' not in line


@pytest.mark.parametrize(
    ('host', 'url'),
    [
        ('0.0.0.0', 'http://localhost:80/'),
        ('::', 'http://localhost:80/'),
        ('192.0.2.7', 'http://192.0.2.7:80/'),
        ('2001:db8::7', 'http://[2001:db8::7]:80/'),
    ],
)
def test_url_of_the_gallery(host: str, url: str) -> None:
    line = summarize(Config({}), redis_state='none', host=host, port=80)
    assert line.endswith(f'; gallery {url}')


def test_port_chosen_by_the_system() -> None:
    config = Config({'ASGI_LOOK_REDIS_HOST': 'none'})
    line = summarize(config, redis_state='none', host='127.0.0.1', port=0)
    assert 'Redis none;' in line
    assert 'http' not in line


@pytest.mark.parametrize('url', ['none', NO_REDIS])
async def test_search_for_redis_is_not_logged(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config({'ASGI_LOOK_REDIS_HOST': url})
    assert await find_redis(config) == {'none': 'none', NO_REDIS: 'down'}[url]
    assert caplog.records == []
    assert logging.getLogger('asgilook').isEnabledFor(logging.WARNING)


async def test_redis_is_found(config: Config) -> None:
    assert await find_redis(config) == 'up'


STORED = {'ASGI_LOOK_STORAGE_PATH': '/srv/images'}
REBOOT = 'images are stored in /tmp/asgilook, which is lost at a reboot: '
OPEN = 'everyone who can reach 0.0.0.0 may upload images: set ASGI_LOOK_API_TOKEN'


@pytest.mark.parametrize(
    ('environ', 'host', 'expected'),
    [
        ({}, 'localhost', [f'{REBOOT}set ASGI_LOOK_STORAGE_PATH']),
        (STORED, 'localhost', []),
        (STORED, '127.0.0.2', []),
        (STORED, '::1', []),
        (STORED, '0.0.0.0', [OPEN]),
        (STORED, '::', [OPEN.replace('0.0.0.0', '::')]),
        (STORED, 'images.example', [OPEN.replace('0.0.0.0', 'images.example')]),
        (STORED | {'ASGI_LOOK_API_TOKEN': 's3cret'}, '0.0.0.0', []),
        (
            {
                'ASGI_LOOK_STORAGE_URL': 's3://images',
                'ASGILOOK_TOKEN': 's3cret',
            },
            'localhost',
            ['ASGILOOK_TOKEN is not a setting; did you mean ASGI_LOOK_API_TOKEN?'],
        ),
    ],
)
def test_advice(
    environ: dict[str, str],
    host: str,
    expected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_advice(Config(environ), environ, host)
    assert [record.getMessage() for record in caplog.records] == expected
