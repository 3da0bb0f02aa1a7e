from __future__ import annotations

import pytest

from asgilook import backend_urls
from asgilook.backend_urls import Nodes, has_many_nodes, parse_nodes
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
        ('REDIS_HOST', 'redis://:s3cret@cache/00'),
        ('REDIS_HOST', 'redis://:s3cret@cache?password=s3cret'),
        ('REDIS_HOST', 'redis://cache?password=s3cret&password=s3cret'),
        ('REDIS_HOST', 'unix://:s3cret@/run/redis.sock'),
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


@pytest.mark.parametrize(
    ('url', 'nodes'),
    [
        (
            'redis+sentinel://one/thumbs',
            Nodes('sentinel', [('one', 26379)], None, None, 'thumbs', 0),
        ),
        (
            'redis+sentinel://ada:s3cret@one:1,two.example,[::1]:65535/thumbs/15',
            Nodes(
                'sentinel',
                [('one', 1), ('two.example', 26379), ('::1', 65535)],
                'ada',
                's3cret',
                'thumbs',
                15,
            ),
        ),
        (
            'redis+cluster://one',
            Nodes('cluster', [('one', 6379)], None, None, '', 0),
        ),
        (
            'redis+cluster://one:7000,10.0.0.2/',
            Nodes('cluster', [('one', 7000), ('10.0.0.2', 6379)], None, None, '', 0),
        ),
        (
            'redis+cluster://:a%2Fb%40c@one',
            Nodes('cluster', [('one', 6379)], None, 'a/b@c', '', 0),
        ),
    ],
)
def test_nodes(url: str, nodes: Nodes) -> None:
    assert has_many_nodes(url)
    assert parse_nodes(url) == nodes


@pytest.mark.parametrize(
    'url',
    [
        'redis+sentinel://one',
        'redis+sentinel://one/',
        'redis+sentinel:///thumbs',
        'redis+sentinel://one/thumbs/x',
        'redis+sentinel://one/thumbs/-1',
        'redis+sentinel://one/thumbs/1/2',
        'redis+sentinel://one/thumbs?db=1',
        'redis+sentinel://one/thumbs#1',
        'redis+sentinel://ada@one/thumbs',
        'redis+sentinel://ada:@one/thumbs',
        'redis+cluster://',
        'redis+cluster://one/thumbs',
        'redis+cluster://one//1',
        'redis+cluster://one two',
        'redis+sentinels://one/thumbs',
        'redis+tls://one',
    ],
)
def test_invalid_url_of_nodes(url: str) -> None:
    with pytest.raises(ValueError, match=r'^must be redis\+sentinel://'):
        parse_nodes(url)


@pytest.mark.parametrize('node', ['one:', ':1', 'one:0', 'one:65536', 'one:p', '::1'])
def test_invalid_node(node: str) -> None:
    with pytest.raises(ValueError, match='must be HOST or HOST:PORT'):
        parse_nodes(f'redis+cluster://one,{node}')


def test_empty_node() -> None:
    with pytest.raises(ValueError, match=r"^'' must be HOST"):
        parse_nodes('redis+cluster://one,,two')


@pytest.mark.parametrize('url', ['redis://one', 'rediss://one', 'unix:///a', 'none'])
def test_url_of_one_server(url: str) -> None:
    assert not has_many_nodes(url)


@pytest.mark.parametrize(
    'url',
    [
        'redis://localhost',
        'rediss://:s3cret@cache.example:6380/1',
        'redis://[::1]',
        'redis://:p%40ss@cache.example/0?timeout=1',
        'redis://cache.example/?db=15&password=s3cret',
        'unix:///run/redis.sock?db=1',
        'unix:///run/redis.sock?db=0&password=s3cret',
        'unix://ada:s3cret@/run/redis.sock',
        'redis+sentinel://one/thumbs',
        'redis+cluster://one',
    ],
)
def test_valid_redis_url(url: str) -> None:
    assert backend_urls.redis_url(url) == url


@pytest.mark.parametrize('word', ['none', 'None'])
def test_no_redis_url(word: str) -> None:
    assert backend_urls.redis_url(word) is None


@pytest.mark.parametrize(
    ('url', 'problem'),
    [
        ('localhost', 'must be redis://'),
        ('http://localhost', 'must be redis://'),
        ('redis://localhost/name', 'must have a database number'),
        ('redis://localhost/12345', 'must have a database number'),
        ('redis://localhost/00', 'must have a database number'),
        ('redis:0', 'must have a database number'),
        ('redis://localhost:port', 'must be a URL'),
        ('redis://localhost?db=01', 'must have one database'),
        ('redis://localhost?db=x', 'must have one database'),
        ('redis://localhost/0?db=0', 'must have one database'),
        ('redis://localhost?timeout=1&timeout=2', 'must have each option once'),
        ('redis://localhost?password=', 'must have each option once'),
        ('redis://localhost?a', 'must have each option once'),
        ('redis://localhost?encoding=utf-8', 'must not have the option encoding'),
        ('redis://:a@localhost?password=b', 'must have one password$'),
        ('unix://', 'must be unix:///PATH'),
        ('unix://:a@/run/redis.sock', 'must be unix:///PATH'),
        ('unix://ada:a@localhost/run/redis.sock', 'must be unix:///PATH'),
        ('unix://localhost/run/redis.sock', 'must be unix:///PATH'),
        ('redis+sentinel://one', 'must be redis\\+sentinel://'),
    ],
)
def test_invalid_redis_url(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f'^{problem}'):
        backend_urls.redis_url(url)
