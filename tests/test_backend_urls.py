from __future__ import annotations

import pytest

from asgilook.backend_urls import Servers, is_many, parse_servers


@pytest.mark.parametrize(
    ('url', 'servers'),
    [
        (
            'redis+sentinel://one/thumbs',
            Servers('sentinel', [('one', 26379)], None, None, 'thumbs', 0),
        ),
        (
            'redis+sentinel://ada:s3cret@one:1,two.example,[::1]:65535/thumbs/15',
            Servers(
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
            Servers('cluster', [('one', 6379)], None, None, '', 0),
        ),
        (
            'redis+cluster://one:7000,10.0.0.2/',
            Servers('cluster', [('one', 7000), ('10.0.0.2', 6379)], None, None, '', 0),
        ),
        (
            'redis+cluster://:a%2Fb%40c@one',
            Servers('cluster', [('one', 6379)], None, 'a/b@c', '', 0),
        ),
    ],
)
def test_url(url: str, servers: Servers) -> None:
    assert is_many(url)
    assert parse_servers(url) == servers


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
def test_url_of_another_shape(url: str) -> None:
    with pytest.raises(ValueError, match=r'^must be redis\+sentinel://'):
        parse_servers(url)


@pytest.mark.parametrize('node', ['one:', ':1', 'one:0', 'one:65536', 'one:p', '::1'])
def test_node_of_another_shape(node: str) -> None:
    with pytest.raises(ValueError, match='must be HOST or HOST:PORT'):
        parse_servers(f'redis+cluster://one,{node}')


def test_empty_node() -> None:
    with pytest.raises(ValueError, match=r"^'' must be HOST"):
        parse_servers('redis+cluster://one,,two')


@pytest.mark.parametrize('url', ['redis://one', 'rediss://one', 'unix:///a', 'none'])
def test_url_of_one_server(url: str) -> None:
    assert not is_many(url)
