from __future__ import annotations

import pytest

from asgilook import backend_urls
from asgilook.config import Config, ConfigError

GOOD_DATABASES = [
    'postgresql://localhost/asgilook',
    'postgresql://ada:s3cret@db.example:5433/asgilook?ssl=require',
    'postgresql://ada@[::1]/asgilook',
    'sqlite:///var/lib/asgilook.db',
    'sqlite:////var/lib/asgilook.db',
]

BAD_DATABASES = [
    'localhost',
    'mysql://localhost/asgilook',
    'postgres://localhost/asgilook',
    'postgresql://localhost',
    'postgresql://localhost/',
    'postgresql:///asgilook',
    'postgresql://localhost/a/b',
    'postgresql://localhost/asgilook#1',
    'postgresql://localhost:port/asgilook',
    'postgresql://localhost:65536/asgilook',
    'postgresql://[::1/asgilook',
    'sqlite://',
    'sqlite:///',
    'sqlite://asgilook.db',
    'sqlite:asgilook.db',
    'sqlite:///asgilook.db?mode=ro',
    'sqlite:///asgilook.db#1',
]

GOOD_STORAGES = [
    'file:///srv/images',
    'file:///srv/my%20images',
    's3://images',
    's3://images/',
    's3://images/a/b',
    's3://images/a?endpoint=http://127.0.0.1:9000',
    's3://images?endpoint=https%3A%2F%2Fs3.example&region=eu-1',
    's3://images?access_key_id=a&secret_access_key=b%2Fc',
]

BAD_STORAGES = [
    '/srv/images',
    'file://srv/images',
    'file:///',
    'file:///srv/images?x=1',
    'file:///srv/images#x',
    'gs://images',
    's3://',
    's3:///images',
    's3://Images',
    's3://im',
    's3://images:80',
    's3://images#x',
    's3://images?bucket=x',
    's3://images?region=',
    's3://images?region',
    's3://images?region=a&region=b',
    's3://images?access_key_id=a',
    's3://images?secret_access_key=a',
    's3://images?endpoint=127.0.0.1:9000',
    's3://images?endpoint=ftp://127.0.0.1',
    's3://images?endpoint=http://',
    's3://images?endpoint=http://127.0.0.1:port',
    's3://images?endpoint=http://ada@127.0.0.1',
]


@pytest.mark.parametrize('url', GOOD_DATABASES)
def test_good_database_url(url: str) -> None:
    assert backend_urls.database_url(url) == url


@pytest.mark.parametrize('url', GOOD_STORAGES)
def test_good_storage_url(url: str) -> None:
    assert backend_urls.storage_url(url) == url


@pytest.mark.parametrize('word', ['none', 'None'])
def test_no_url(word: str) -> None:
    assert backend_urls.database_url(word) is None
    assert backend_urls.storage_url(word) is None


@pytest.mark.parametrize(
    ('name', 'url'),
    [
        *(('DATABASE_URL', url) for url in BAD_DATABASES),
        *(('STORAGE_URL', url) for url in BAD_STORAGES),
    ],
)
def test_bad_url_is_named(name: str, url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config({f'ASGI_LOOK_{name}': url})
    message = str(raised.value)
    assert message.startswith(f'ASGI_LOOK_{name}=')
    assert message.partition(': ')[2]


def test_options_of_a_bucket() -> None:
    url = 's3://images?endpoint=https%3A%2F%2Fs3.example&region=eu-1'
    assert backend_urls.s3_options(url) == {
        'endpoint': 'https://s3.example',
        'region': 'eu-1',
    }
    assert backend_urls.s3_options('s3://images/a') == {}


@pytest.mark.parametrize(
    ('name', 'url'),
    [
        ('REDIS_HOST', 'redis://:s3cret@cache:port'),
        ('REDIS_HOST', 'redis://:s3cret@cache/name'),
        ('REDIS_HOST', 'redis://:s3/cret@cache'),
        ('DATABASE_URL', 'postgresql://ada:s3cret@host'),
        ('DATABASE_URL', 'postgresql://ada:s3/cret@host/db'),
        ('DATABASE_URL', 'postgresql://ada:s3?cret@host/db'),
        ('DATABASE_URL', 'postgresql://ada:s3#cret@host/db'),
        ('DATABASE_URL', 'mysql://host/db?sslpassword=s3cret'),
        ('STORAGE_URL', 's3://images?access_key_id=a&secret_access_key=s3cret&x=1'),
        ('STORAGE_URL', 's3://images?endpoint=http://ada:s3cret@127.0.0.1'),
        ('STORAGE_URL', 's3://ada:s3cret@images'),
    ],
)
def test_secret_of_a_bad_url_is_not_shown(name: str, url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config({f'ASGI_LOOK_{name}': url})
    message = str(raised.value)
    assert '***' in message
    assert 's3cret' not in message
    assert 'cret' not in message.replace('secret', '')
