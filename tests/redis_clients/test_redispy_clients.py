"""The service with a Redis that only redis-py supports; all are real processes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from asgilook.config import Config
from asgilook.events.relay import CHANNEL
from asgilook.redis_clients.client import Redis
from asgilook.redis_clients.factory import create_driver
from asgilook.redis_clients.redispy import create_client

from ..event_streams import Subscriber
from ..redis_servers import behind_sentinels, clients, cluster, fail_over
from ..servers import HOST, RedisServer, Server, until

pytestmark = pytest.mark.integration

TOKEN = 'let-me-in'
BEARER = {'Authorization': f'Bearer {TOKEN}'}
SETTINGS: dict[str, Any] = {
    'api_token': TOKEN,
    'cache_memory': 0,
    'redis_timeout': 5,
}


def subscribers(*servers: RedisServer) -> int:
    """Count the workers that receive events."""
    return sum(server.command('PUBSUB NUMSUB', CHANNEL)[1] for server in servers)


def check_events(server: Server, photo: bytes) -> None:
    """Check that each worker streams an upload."""
    streams = server.on_each_worker(lambda: Subscriber(server.port))
    for stream in streams:
        stream.wait_for('id: ')
    image = server.upload(photo, **BEARER)
    for stream in streams:
        stream.wait_for(image['id'])
        assert 'reload' not in str(stream.lines), server.log


def check_hits(folder: Path, server: Server, photo: bytes, url: str) -> list[str]:
    """Check that thumbnails of one process are hits in another; return their URLs."""
    images = [server.upload(photo, **BEARER) for _ in range(12)]
    paths = [path for each in images for path in (each['image'], *each['thumbnails'])]
    made = [server.get(path) for path in paths]
    assert [answer.hit for answer in made] == [False] * len(paths)
    with Server(folder, redis_host=url, **SETTINGS) as other:
        for path, answer in zip(paths, made, strict=True):
            found = other.get(path)
            assert found.headers['Cache-Status'] == 'ASGILook; hit; detail=redis'
            assert found.body == answer.body
    return paths


def test_user_of_an_acl(tmp_path: Path, photo: bytes) -> None:
    with RedisServer(tmp_path) as redis:
        commands = '+ping +getrange +set +del +publish +subscribe'
        rights = f'~asgilook:* &{CHANNEL} {commands}'
        redis.command(f'ACL SETUSER ada on >s3cret {rights}')
        redis.command('ACL SETUSER default -@all +acl +client +keys +pubsub +flushall')
        url = f'redis://ada:s3cret@{HOST}:{redis.port}'
        with Server(tmp_path, '--workers', '2', redis_host=url, **SETTINGS) as server:
            until(lambda: subscribers(redis) == 2)
            paths = check_hits(tmp_path, server, photo, url)
            check_events(server, photo)
            assert redis.keys == sorted(f'asgilook:{path}' for path in paths)
            redis.command('ACL SETUSER ada resetpass >other')
            redis.command('CLIENT KILL USER ada')
            assert not server.get(paths[1]).hit
            (line,) = server.logged('Redis unavailable at .*')[:1]
            assert f'redis://ada:***@{HOST}:{redis.port}' in line
            assert 's3cret' not in server.log


def test_sentinels_name_another_master(tmp_path: Path, photo: bytes) -> None:
    with behind_sentinels(tmp_path) as (master, replica, url):
        options = ('--workers', '2')
        with Server(tmp_path, *options, redis_host=url, **SETTINGS) as server:
            until(lambda: subscribers(master) == 2)
            paths = check_hits(tmp_path, server, photo, url)
            check_events(server, photo)

            fail_over(master, replica)
            assert server.get(paths[1]).status == 200
            until(lambda: subscribers(replica) == 2)
            replica.command('FLUSHALL')
            until(lambda: server.get(paths[1]).hit)
            assert replica.keys == [f'asgilook:{paths[1]}']
            check_events(server, photo)


async def test_silent_sentinel_is_skipped(tmp_path: Path) -> None:
    with (
        behind_sentinels(tmp_path) as (_, _, url),
        socket.create_server((HOST, 0)) as silent,
    ):
        first = f'{HOST}:{silent.getsockname()[1]},'
        client = create_client(url.replace('://', f'://{first}'), 4)
        async with asyncio.timeout(60):
            assert await client.ping()
        await client.aclose()


def test_cluster(tmp_path: Path, photo: bytes) -> None:
    with cluster(tmp_path) as (nodes, url):
        options = ('--workers', '2')
        with Server(tmp_path, *options, redis_host=url, **SETTINGS) as server:
            until(lambda: subscribers(*nodes) == 2)
            paths = check_hits(tmp_path, server, photo, url)
            keys = [key for node in nodes for key in node.keys]
            assert all(node.keys for node in nodes)
            assert sorted(keys) == sorted(f'asgilook:{path}' for path in paths)
            check_events(server, photo)

            for path in paths[::3]:
                assert server.ask('DELETE', path, **BEARER).status == 204
            assert [node.keys for node in nodes] == [[], [], []]
            assert server.log_lines('Redis') == []


async def test_cluster_that_lacks_a_node(tmp_path: Path) -> None:
    config = Config({})
    config.redis_timeout = 60
    with cluster(tmp_path) as (nodes, config.redis_host):
        client = Redis(create_driver(config), config.redis_timeout)
        await client.start()
        keys = [f'key{number}' for number in range(50)]
        await asyncio.gather(*(client.set(key, b'value', 60) for key in keys))
        assert await client.state() == 'up'
        nodes[0].kill()
        found = await asyncio.gather(*(client.get(key, 9) for key in keys))
        assert None in found
        assert await client.state() == 'down'
        await client.stop()
        until(lambda: [clients(node) for node in nodes[1:]] == [1, 1])
