"""`/events` over HTTP, in this process and on real servers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgpack
import pytest
from falcon.testing import ASGIConductor, TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.events.hub import Hub
from asgilook.events.relay import CHANNEL

from ..conftest import no_redis
from ..event_streams import Subscriber, image_json, parse_stream
from ..servers import RedisServer, Server, paused, until


@pytest.mark.integration
async def test_stream_of_uploads_and_deletions(config: Config, photo: bytes) -> None:
    config.api_token = 'secret'
    headers = {'Authorization': 'Bearer secret'}
    async with (
        ASGIConductor(create_app(config)) as conductor,
        conductor.simulate_get_stream('/events') as stream,
    ):
        created = await conductor.simulate_post('/images', body=photo, headers=headers)
        image = created.json
        await conductor.simulate_delete(image['image'], headers=headers)
        text = b''
        async with asyncio.timeout(60):
            while b'deleted' not in text:
                text += await stream.stream.read()
    assert stream.status_code == 200
    assert stream.headers['content-type'] == 'text/event-stream'
    assert stream.headers['cache-control'] == 'no-store'
    assert stream.headers['x-accel-buffering'] == 'no'
    found = parse_stream(text)
    events = [event for event in found if event.name not in (None, 'reload')]
    assert events == [('image', image), ('deleted', {'id': image['id']})]


def test_rejected_upload_sends_no_event(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.create_redis_pool = no_redis
    published: list[object] = []
    monkeypatch.setattr(Hub, 'publish', lambda *event: published.append(event))
    client = TestClient(create_app(config))
    assert client.simulate_post('/images', body=b'text').status_code == 415
    assert published == []


def test_head_has_the_headers_and_ends(client: TestClient) -> None:
    result = client.simulate_head('/events')
    assert result.status_code == 200
    assert result.headers['content-type'] == 'text/event-stream'
    assert result.headers['cache-control'] == 'no-store'
    assert 'content-length' not in result.headers
    assert 'x-asgilook-cache' not in result.headers


def connected(redis: RedisServer, count: int = 2) -> None:
    """Wait until so many workers receive events."""
    until(lambda: redis.command('PUBSUB', 'NUMSUB', CHANNEL)[1] == count)


@pytest.mark.integration
def test_upload_on_one_worker_reaches_all(tmp_path: Path, photo: bytes) -> None:
    with (
        RedisServer(tmp_path) as redis,
        Server(tmp_path, '--workers', '2', redis_host=redis.url) as server,
    ):
        connected(redis)
        subscribers = server.on_each_worker(lambda: Subscriber(server.port))
        for subscriber in subscribers:
            subscriber.wait_for('id: ')
        image = server.upload(photo)
        for subscriber in subscribers:
            subscriber.wait_for(image['id'])
        last_id = subscribers[0].last_id()
        missed = server.upload(photo)
        for subscriber in subscribers:
            subscriber.wait_for(missed['id'])
        resumed = server.on_each_worker(lambda: Subscriber(server.port, last_id))
        for subscriber in resumed:
            subscriber.wait_for(missed['id'])
            assert image['id'] not in str(subscriber.lines)
            assert 'reload' not in str(subscriber.lines)


@pytest.mark.integration
def test_redis_restarts_three_times(tmp_path: Path, photo: bytes) -> None:
    """Events are shared again after each time, and a stop leaves no traceback."""
    with RedisServer(tmp_path) as redis:
        port, url = redis.port, redis.url
        limits = {'events.relay.RETRY_INTERVAL': 0.2}
        options = '--workers', '2'
        with Server(tmp_path, *options, limits=limits, redis_host=url) as server:
            connected(redis)
            subscribers = server.on_each_worker(lambda: Subscriber(server.port))
            for number in range(1, 4):
                redis.stop()
                server.logged('events stay within', 2 * number)
                local = server.upload(photo)
                until(lambda: any(local['id'] in str(s.lines) for s in subscribers))  # noqa: B023
                with RedisServer(tmp_path, port) as redis:
                    server.logged('events are shared', 2 * number)
                    for subscriber in subscribers:
                        subscriber.wait_for('event: reload', number)
                    connected(redis)
                    image = server.upload(photo)
                    for subscriber in subscribers:
                        subscriber.wait_for(image['id'])
                    if number == 3:
                        server.stop()


@pytest.mark.integration
def test_redis_is_frozen_and_killed(tmp_path: Path, photo: bytes) -> None:
    """The streams stay open throughout."""
    redis = RedisServer(tmp_path)
    limits = {'events.relay.PING_INTERVAL': 0.5, 'events.relay.RETRY_INTERVAL': 0.2}
    options = '--workers', '2'
    server = Server(tmp_path, *options, limits=limits, redis_host=redis.url)
    with redis, server:
        connected(redis)
        subscribers = server.on_each_worker(lambda: Subscriber(server.port))
        with paused(redis.pid):
            server.logged('events stay within', 2)
            image = server.upload(photo)
            until(lambda: any(image['id'] in str(s.lines) for s in subscribers))
        server.logged('events are shared', 2)
        redis.kill()
        server.logged('events stay within', 4)
        with RedisServer(tmp_path, redis.port) as redis:
            server.logged('events are shared', 4)
            image = server.upload(photo)
            for subscriber in subscribers:
                subscriber.wait_for(image['id'])
                assert subscriber.is_alive()
            server.stop()


@pytest.mark.integration
def test_garbage_in_redis_causes_no_reload(tmp_path: Path, photo: bytes) -> None:
    with (
        RedisServer(tmp_path) as redis,
        Server(tmp_path, redis_host=redis.url) as server,
    ):
        connected(redis, 1)
        server.upload(photo)
        subscriber = Subscriber(server.port)
        subscriber.wait_for('id: ')
        for data in (None, float('nan'), image_json(1) | {'size': [float('nan')] * 2}):
            message = msgpack.packb([1, '1-a', 'image', data])
            quoted = '"' + ''.join(f'\\x{byte:02x}' for byte in message) + '"'
            assert redis.command('PUBLISH', CHANNEL, quoted) == 1
        image = server.upload(photo)
        subscriber.wait_for(image['id'])
        assert 'event: reload' not in subscriber.lines
        metrics = server.get('/metrics').body
        assert re.search(rb'asgilook_events_invalid_total\S* 3.0\n', metrics)


@pytest.mark.integration
def test_sigterm_ends_open_streams(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        subscribers = [Subscriber(server.port) for _ in range(3)]
        for subscriber in subscribers:
            subscriber.wait_for('id: ')
        assert server.stop() == 0
        assert 'timeout graceful shutdown exceeded' not in server.log
        for subscriber in subscribers:
            subscriber.join(60)
            assert not subscriber.is_alive()
