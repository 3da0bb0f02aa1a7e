from __future__ import annotations

from asgilook import __version__
from asgilook.cli.summary import summarize
from asgilook.config import Config


def test_defaults() -> None:
    assert summarize(Config({}), host='127.0.0.1', port=8000) == (
        f'asgilook {__version__}: storage /tmp/asgilook; index in memory; '
        'Redis redis://localhost; uploads open to everyone, deletions disabled '
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
    line = summarize(config, host='::1', port=80)
    assert 'storage s3://images/a?region=x' in line
    assert 'index postgresql://ada:***@db/images; Redis rediss://ada:***@cache' in line
    assert 'uploads and deletions need a token; gallery http://[::1]:80/' in line
    assert 's3cret' not in line


def test_port_chosen_by_the_system() -> None:
    config = Config({'ASGI_LOOK_REDIS_HOST': 'none'})
    line = summarize(config, host='127.0.0.1', port=0)
    assert 'Redis none;' in line
    assert 'http' not in line
