"""Outages of a database: a real PostgreSQL behind a proxy, and SQLite."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from asgilook.config import ConfigError
from asgilook.errors import (
    DatabaseUnavailable,
    ImageNotFound,
    OutcomeUnknown,
    StorageFull,
    StorageUnavailable,
)
from asgilook.index import connection, engine, schema
from asgilook.index.attempts import Work
from asgilook.index.connection import Connector
from asgilook.index.database import DatabaseIndex

from ..conftest import logged, until
from ..databases import PostgreSQL, SQLite, running
from ..proxy import Proxy
from ..servers import run
from .test_database import make_image

IMAGE = make_image(1)

# Connections of this test that wait for a lock.
WAITING = (
    "FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND datname = current_database() AND application_name = 'asgilook'"
)


@pytest.fixture
def proxy(postgresql_db: PostgreSQL) -> Iterator[Proxy]:
    """Return a proxy in front of the database."""
    with Proxy(postgresql_db.port) as proxy:
        yield proxy


@pytest.fixture
def url(postgresql_db: PostgreSQL, proxy: Proxy) -> str:
    """Return the URL of the database through the proxy."""
    return postgresql_db.at(proxy.port)


@pytest.fixture
async def index(url: str) -> AsyncIterator[DatabaseIndex]:
    """Return an index that connects through the proxy."""
    async with running(url) as index:
        yield index


@pytest.fixture
def role(postgresql_db: PostgreSQL) -> Iterator[str]:
    """Return the name of a role that may use the database."""
    with postgresql_db.role() as role:
        yield role


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only briefly for a frozen server."""
    monkeypatch.setattr(engine, 'TIMEOUT', 1.0)
    monkeypatch.setattr(connection, 'RETRY_INTERVAL', 0.01)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[asyncpg.Connection]:
    """Return the list of all connections that are made to PostgreSQL."""
    made, connect = [], asyncpg.connect

    async def record(*args: Any, **kwargs: Any) -> asyncpg.Connection:
        made.append(await connect(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(asyncpg, 'connect', record)
    return made


async def wait_until_usable(index: DatabaseIndex) -> None:
    """Wait until the database is available again."""
    async with asyncio.timeout(60):
        while not await index.is_usable():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def assert_unavailable(request: Awaitable[object]) -> None:
    """Check that a request fails, and may be repeated soon."""
    (result,) = await asyncio.gather(request, return_exceptions=True)
    assert isinstance(result, DatabaseUnavailable)
    assert result.retry_after == 1


def rows(postgresql_db: PostgreSQL) -> int:
    ((count,),) = postgresql_db.execute('SELECT count(*) FROM images')
    return int(count)


@pytest.mark.usefixtures('short_timeouts')
async def test_outage_and_recovery(
    index: DatabaseIndex,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed, removed = make_image(2), make_image(3)
    for image in (IMAGE, listed, removed):
        await index.add(image)
    await index.remove(removed.image_id)
    await index.page(10)
    proxy.cut()
    for image in (IMAGE, listed):
        assert await index.get(image.image_id) == image
        assert await index.is_current(image)
    requests: list[Awaitable[object]] = [
        index.get(removed.image_id),
        index.get(make_image(4).image_id),
        index.page(10),
        index.page(10, IMAGE.image_id),
        index.add(make_image(4)),
        index.remove(IMAGE.image_id),
    ]
    for request in requests:
        await assert_unavailable(request)
    assert not await index.is_usable()
    proxy.restore()
    await wait_until_usable(index)
    assert (await index.page(10)).images == [IMAGE, listed]
    lost, restored = logged(caplog)
    assert lost.startswith('WARNING the database at postgresql://')
    assert restored == 'WARNING the database is available again'


async def test_outage_serves_images_as_last_seen(
    index: DatabaseIndex, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    """An image that another machine has removed stays removed, once noticed."""
    await index.add(IMAGE)
    postgresql_db.execute('DELETE FROM images')
    assert await index.get(IMAGE.image_id) is None
    proxy.cut()
    await assert_unavailable(index.get(IMAGE.image_id))


@pytest.mark.usefixtures('short_timeouts')
async def test_start_during_outage(
    url: str, proxy: Proxy, postgresql_db: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.cut()
    async with running(url) as index:
        assert not await index.is_usable()
        await assert_unavailable(index.add(IMAGE))
        proxy.restore()
        await wait_until_usable(index)
        await index.add(IMAGE)
    assert rows(postgresql_db) == 1
    assert len(logged(caplog)) == 2


async def test_stop_during_outage(index: DatabaseIndex, proxy: Proxy) -> None:
    for _ in range(2):
        proxy.cut()
        await assert_unavailable(index.page(1))
        for _ in range(2):
            await index.stop()
        proxy.restore()
        await index.start()


@pytest.mark.usefixtures('short_timeouts')
async def test_frozen_server_fails_calls_within_timeout(
    index: DatabaseIndex,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await index.add(IMAGE)
    proxy.freeze()
    requests = [index.get(IMAGE.image_id), index.page(1), index.page(2)]
    requests += [index.get(make_image(n).image_id) for n in (1, 2)]
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert results[0] == results[3] == IMAGE
    for result in (results[1], results[2], results[4]):
        assert isinstance(result, DatabaseUnavailable)
    connections = proxy.connections
    for _ in range(100):
        await assert_unavailable(index.page(1))
    assert proxy.connections - connections <= 1
    proxy.thaw()
    await wait_until_usable(index)
    assert (await index.page(1)).images == [IMAGE]
    assert 'no response in 1 s' in logged(caplog)[0]


@pytest.mark.usefixtures('short_timeouts')
async def test_calls_that_wait_for_a_connection_fail_with_the_outage(
    index: DatabaseIndex, proxy: Proxy
) -> None:
    await index.page(1)
    proxy.freeze()
    connections = proxy.connections
    pages = [index.page(1) for _ in range(10 * engine.MAX_CONNECTIONS)]
    results = await asyncio.gather(*pages, return_exceptions=True)
    assert {type(result) for result in results} == {DatabaseUnavailable, OutcomeUnknown}
    assert proxy.connections - connections <= 2 * engine.MAX_CONNECTIONS


@pytest.mark.usefixtures('short_timeouts')
async def test_start_with_frozen_server(url: str, proxy: Proxy) -> None:
    proxy.freeze()
    async with running(url) as index:
        await assert_unavailable(index.page(1))
        proxy.thaw()
        await wait_until_usable(index)


@pytest.mark.usefixtures('short_timeouts')
async def test_insert_into_frozen_server_has_unknown_outcome(
    index: DatabaseIndex, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    """So the file of the image must be kept."""
    await index.page(1)
    proxy.freeze()
    with pytest.raises(OutcomeUnknown):
        await index.add(IMAGE)
    await assert_unavailable(index.add(IMAGE))
    proxy.thaw()
    await wait_until_usable(index)
    assert rows(postgresql_db) in (0, 1)


async def test_stop_with_frozen_server(
    url: str, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    async with running(url) as index:
        await asyncio.gather(*(index.page(1) for _ in range(3)))
        proxy.freeze()
    proxy.thaw()
    await until(lambda: postgresql_db.connections() == 0)


async def test_stop_waits_for_calls_in_progress(
    index: DatabaseIndex, postgresql_db: PostgreSQL
) -> None:
    """So that none of them returns its connection to a pool that is closed."""
    async with postgresql_db.locked():
        calls = [asyncio.create_task(index.page(1)) for _ in range(3)]
        query = f'SELECT count(*) {WAITING}'
        await until(lambda: postgresql_db.execute(query) == [(3,)])
        stopping = asyncio.create_task(index.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
    await stopping
    await until(lambda: postgresql_db.connections() == 0)
    await assert_unavailable(index.page(1))
    await index.start()
    assert [(await call).images for call in calls] == [[]] * 3


@pytest.mark.usefixtures('short_timeouts')
async def test_idle_connections_are_replaced_after_an_outage(
    index: DatabaseIndex,
    proxy: Proxy,
    made: list[asyncpg.Connection],
) -> None:
    """A frozen server may never report that they were lost."""
    await asyncio.gather(*(index.page(1) for _ in range(3)))
    before = list(made)
    proxy.freeze()
    await assert_unavailable(index.page(1))
    proxy.thaw()
    await wait_until_usable(index)
    await asyncio.gather(*(index.page(1) for _ in range(30)))
    await until(lambda: all(connection.is_closed() for connection in before))


@pytest.mark.parametrize('noticed', [True, False])
async def test_idle_connection_that_was_lost_is_replaced(
    index: DatabaseIndex, proxy: Proxy, made: list[asyncpg.Connection], noticed: bool
) -> None:
    """No request notices that PostgreSQL was restarted while it was idle."""
    for number in range(3):
        proxy.cut()
        proxy.restore()
        if noticed:
            await until(lambda: all(each.is_closed() for each in made))
        await index.add(make_image(number))
        assert await index.get(make_image(number).image_id)
    assert len((await index.page(9)).images) == 3


@pytest.mark.usefixtures('short_timeouts')
async def test_recovery_rejects_other_version(
    index: DatabaseIndex,
    proxy: Proxy,
    postgresql_db: PostgreSQL,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.cut()
    await assert_unavailable(index.page(1))
    postgresql_db.execute('UPDATE asgilook_schema SET version = 2')
    proxy.restore()
    await until(lambda: len(logged(caplog)) == 2)
    await assert_unavailable(index.page(1))
    postgresql_db.execute('UPDATE asgilook_schema SET version = 1')
    await wait_until_usable(index)
    assert 'version 2' in logged(caplog)[1]


async def test_statement_is_repeated_if_its_connection_is_lost(
    index: DatabaseIndex, postgresql_db: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    """The statement is sent again."""
    await index.add(IMAGE)
    async with asyncio.TaskGroup() as group:
        async with postgresql_db.locked():
            added = group.create_task(index.add(make_image(2)))
            removed = group.create_task(index.remove(IMAGE.image_id))
            query = f'SELECT count(*) {WAITING}'
            await until(lambda: postgresql_db.execute(query) == [(2,)])
            postgresql_db.execute(f'SELECT pg_terminate_backend(pid) {WAITING}')
        await added
        await removed
    assert (await index.page(9)).images == [make_image(2)]
    assert logged(caplog) == []


async def test_lost_answer_to_insert(
    index: DatabaseIndex, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    proxy.lose(b'INSERT 0 1')
    await index.add(IMAGE)
    assert proxy.lost == 1
    assert rows(postgresql_db) == 1


@pytest.mark.parametrize('mark', [b'BEGIN', b'relname', b'COMMIT'])
async def test_lost_connection_during_table_creation(
    url: str, proxy: Proxy, mark: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.lose(mark)
    async with running(url) as index:
        assert proxy.lost == 1
        await index.add(IMAGE)
    assert logged(caplog) == []


async def test_lost_insert_during_outage_has_unknown_outcome(
    index: DatabaseIndex, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    proxy.lose(b'INSERT 0 1', reject=True)
    with pytest.raises(OutcomeUnknown):
        await index.add(IMAGE)
    await assert_unavailable(index.add(make_image(2)))
    assert rows(postgresql_db) == 1


async def test_rejected_second_insert_has_unknown_outcome(
    index: DatabaseIndex, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    """The image is listed, so its file must be kept."""
    postgresql_db.execute(
        'CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS '
        "$$ BEGIN IF EXISTS (SELECT FROM images) THEN RAISE 'no'; END IF; "
        'RETURN NEW; END $$',
        'CREATE TRIGGER reject BEFORE INSERT ON images '
        'FOR EACH ROW EXECUTE FUNCTION reject()',
    )
    proxy.lose(b'INSERT 0 1')
    with pytest.raises(OutcomeUnknown):
        await index.add(IMAGE)
    assert proxy.lost == 1
    assert rows(postgresql_db) == 1


async def test_lost_answer_to_delete(
    index: DatabaseIndex, proxy: Proxy, postgresql_db: PostgreSQL
) -> None:
    await index.add(IMAGE)
    proxy.lose(b'DELETE 1')
    await index.remove(IMAGE.image_id)
    assert proxy.lost == 1
    assert rows(postgresql_db) == 0


async def test_statement_timeout(
    url: str,
    postgresql_db: PostgreSQL,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server cancels the statement, so nothing of it is executed later."""
    monkeypatch.setattr(engine, 'STATEMENT_TIMEOUT', 0.5)
    async with running(url) as index:
        await index.page(1)
        async with postgresql_db.locked():
            for request in (index.add(IMAGE), index.get(IMAGE.image_id)):
                with pytest.raises(StorageUnavailable) as caught:
                    await request
                assert type(caught.value) is StorageUnavailable
        assert (await index.page(1)).images == []
    (line,) = logged(caplog)
    assert 'failed' in line


async def test_cancelled_requests_leak_no_connection(
    url: str, postgresql_db: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    randomness = random.Random(1)
    async with running(url) as index:
        await index.add(IMAGE)
        for _ in range(30):
            requests: list[Awaitable[Any]] = [
                index.page(1),
                index.page(1, IMAGE.image_id),
                index.get(IMAGE.image_id),
                index.remove(make_image(9).image_id),
                index.add(make_image(7)),
                index.is_usable(),
            ]
            tasks = [asyncio.ensure_future(request) for request in requests]
            for _ in range(randomness.randrange(60)):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert await index.get(IMAGE.image_id) == IMAGE
        await asyncio.gather(*(index.page(1) for _ in range(20)))
        await until(lambda: postgresql_db.connections() <= engine.MAX_CONNECTIONS)
    assert logged(caplog) == []
    await until(lambda: postgresql_db.connections() == 0)


async def test_no_connection_is_free_in_time(
    url: str, postgresql_db: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, 'STATEMENT_TIMEOUT', 0.4)
    monkeypatch.setattr(engine, 'CHECKOUT_TIMEOUT', 0.5)
    async with running(url) as index:
        async with postgresql_db.locked():
            pages = [index.page(1) for _ in range(3 * engine.MAX_CONNECTIONS)]
            results = await asyncio.gather(*pages, return_exceptions=True)
        assert {type(result) for result in results} == {StorageUnavailable}
        assert (await index.page(1)).images == []


async def test_connection_limit_serves_every_call(
    postgresql_db: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    """What three connections can serve is served, without an error."""

    async def client(index: DatabaseIndex, number: int) -> None:
        await index.add(make_image(number))
        for _ in range(5):
            assert await index.get(make_image(number).image_id)
            assert (await index.page(1)).images

    with postgresql_db.role('CONNECTION LIMIT 3') as role:
        async with running(postgresql_db.as_role(role)) as index:
            await asyncio.gather(*(client(index, number) for number in range(24)))
            assert 0 < postgresql_db.connections() <= 3
        assert rows(postgresql_db) == 24
    assert logged(caplog) == []


@pytest.mark.usefixtures('short_timeouts')
async def test_connections_that_others_use_up(
    postgresql_db: PostgreSQL,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(engine, 'CHECKOUT_TIMEOUT', 0.2)
    with postgresql_db.role('CONNECTION LIMIT 1') as role:
        other = await asyncpg.connect(postgresql_db.as_role(role))
        async with running(postgresql_db.as_role(role)) as index:
            await assert_unavailable(index.page(1))
            await other.close()
            await wait_until_usable(index)
            await index.add(IMAGE)
    lost, _ = logged(caplog)
    assert 'too many connections' in lost


def set_read_only(postgresql_db: PostgreSQL, role: str, value: str) -> None:
    """Set whether new connections are read-only; `on` replaces the existing ones."""
    statement = f'ALTER ROLE {role} SET default_transaction_read_only = {value}'
    postgresql_db.execute(statement)
    if value == 'on':
        postgresql_db.end_connections()


@pytest.mark.usefixtures('short_timeouts')
async def test_read_only_database_serves_reads(
    postgresql_db: PostgreSQL, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(postgresql_db.as_role(role)) as index:
        await index.add(IMAGE)
        set_read_only(postgresql_db, role, 'on')
        await index.page(1)
        for _ in range(3):
            for change in (index.add(make_image(2)), index.remove(IMAGE.image_id)):
                with pytest.raises(StorageUnavailable, match='read-only') as caught:
                    await change
                assert type(caught.value) is StorageUnavailable
            assert not await index.is_usable()
            assert await index.get(IMAGE.image_id) == IMAGE
            assert await index.get(make_image(2).image_id) is None
            assert (await index.page(9)).images == [IMAGE]
        await index.stop()
        await index.start()
        assert (await index.page(9)).images == [IMAGE]
        set_read_only(postgresql_db, role, 'off')
        await wait_until_usable(index)
        await index.add(make_image(2))
    assert rows(postgresql_db) == 2
    (line,) = logged(caplog)
    assert line.startswith('WARNING the database is read-only')


@pytest.mark.usefixtures('short_timeouts')
async def test_end_of_read_only_state_is_logged(
    postgresql_db: PostgreSQL, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(postgresql_db.as_role(role)) as index:
        set_read_only(postgresql_db, role, 'on')
        assert not await index.is_usable()
        set_read_only(postgresql_db, role, 'off')
        await wait_until_usable(index)
    begin, end = logged(caplog)
    assert begin.startswith('WARNING the database is read-only')
    assert end == 'WARNING the database accepts changes again'


async def test_failover_needs_no_second_request(
    postgresql_db: PostgreSQL, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections to a server that has become a standby are replaced at once."""
    async with running(postgresql_db.as_role(role)) as index:
        for images in ([make_image(number) for number in range(30)], []):
            set_read_only(postgresql_db, role, 'on')
            await asyncio.gather(*(index.page(1) for _ in range(9)))
            set_read_only(postgresql_db, role, 'off')
            await asyncio.gather(*map(index.add, images))
            with pytest.raises(ImageNotFound):
                await index.remove(make_image(99).image_id)
    assert rows(postgresql_db) == 30
    assert logged(caplog) == []


@pytest.mark.usefixtures('short_timeouts')
async def test_read_only_database_without_tables(
    postgresql_db: PostgreSQL, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    set_read_only(postgresql_db, role, 'on')
    async with running(postgresql_db.as_role(role)) as index:
        await assert_unavailable(index.page(1))
        set_read_only(postgresql_db, role, 'off')
        await wait_until_usable(index)
    assert 'read-only transaction' in logged(caplog)[0]


@pytest.mark.usefixtures('short_timeouts')
async def test_start_continues_while_another_process_creates_the_tables(
    url: str, postgresql_db: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, 'STATEMENT_TIMEOUT', 0.2)
    async with AsyncExitStack() as stack:
        async with postgresql_db.creating_tables():
            index = await stack.enter_async_context(running(url))
            await assert_unavailable(index.page(1))
        await wait_until_usable(index)


@pytest.mark.usefixtures('short_timeouts')
async def test_no_error_ends_the_reconnection(
    index: DatabaseIndex,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare, failures = schema.prepare, iter(range(3))

    async def fail(connection: AsyncConnection) -> None:
        if next(failures, None) is not None:
            raise AttributeError("'NoneType' object has no attribute 'x'")
        await prepare(connection)

    monkeypatch.setattr(schema, 'prepare', fail)
    proxy.cut()
    await assert_unavailable(index.page(1))
    proxy.restore()
    await wait_until_usable(index)
    assert next(failures, None) is None
    assert 'NoneType' in logged(caplog)[1]


@pytest.mark.usefixtures('short_timeouts')
async def test_connections_that_are_ended_at_any_time(
    index: DatabaseIndex, postgresql_db: PostgreSQL
) -> None:
    """Whatever the drivers raise, the calls raise only `DatabaseUnavailable`."""
    ended = asyncio.Event()

    async def client(number: int) -> set[object]:
        results: list[object] = []
        while not ended.is_set():
            image = make_image(number + 100 * len(results))
            requests = index.add(image), index.get(image.image_id), index.page(1)
            results += await asyncio.gather(*requests, return_exceptions=True)
            await asyncio.sleep(0.001)
        return {type(each) for each in results if isinstance(each, Exception)}

    clients = [asyncio.create_task(client(number)) for number in range(9)]
    for _ in range(20):
        await asyncio.to_thread(postgresql_db.end_connections)
    ended.set()
    for errors in await asyncio.gather(*clients):
        assert errors <= {DatabaseUnavailable, OutcomeUnknown}
    await wait_until_usable(index)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda url: url.replace('?', '_not?'), 'does not exist'),
        (lambda url: url + '&sslmode=much', 'sslmode'),
        (lambda url: url + '&not_a_setting=1', 'not_a_setting'),
        (lambda url: url.replace('postgres:postgres@', 'nobody:s3cret@'), 'nobody'),
    ],
)
async def test_wrong_postgresql_url_stops_start(
    postgresql_db: PostgreSQL,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[str], str],
    message: str,
) -> None:
    index = DatabaseIndex(change(postgresql_db.url))
    with pytest.raises(ConfigError, match=r'^ASGI_LOOK_DATABASE_URL=') as caught:
        await index.start()
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)
    assert 's3cret' not in str(caught.value) + caplog.text


async def test_password_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running('postgresql://ada:s3cret@127.0.0.1:1/images') as index:
        await assert_unavailable(index.page(1))
    (line,) = logged(caplog)
    assert 'postgresql://ada:***@127.0.0.1:1/images' in line
    assert 's3cret' not in caplog.text


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('none/index.db', 'No such file or directory'),
        ('text', 'file is not a database'),
        ('.', 'Is a directory'),
    ],
)
async def test_wrong_sqlite_file_stops_start(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / 'text').write_text('This is text.' * 100)
    index = DatabaseIndex(f'sqlite://{tmp_path}/{name}')
    with pytest.raises(ConfigError, match=message):
        await index.start()
    assert (tmp_path / 'text').read_text() == 'This is text.' * 100


async def test_sqlite_path_may_be_percent_encoded(tmp_path: Path) -> None:
    async with running(f'sqlite://{tmp_path}/an%20index.db'):
        pass
    assert (tmp_path / 'an index.db').exists()


@pytest.fixture
async def connector(sqlite_db: SQLite) -> AsyncIterator[Connector]:
    """Return what executes statements in SQLite."""
    connector = Connector(sqlite_db.url)
    await connector.start()
    yield connector
    await connector.stop()


def scalar(statement: str) -> Work[Any]:
    """Return work that runs a statement with one value."""

    async def work(connection: AsyncConnection, attempt: int) -> Any:
        return await connection.scalar(text(statement))

    return work


async def test_sqlite_is_durable(connector: Connector) -> None:
    assert await connector.write(scalar('PRAGMA journal_mode')) == 'wal'
    assert await connector.write(scalar('PRAGMA synchronous')) == 2  # FULL


async def test_timeout_is_not_repeated(
    connector: Connector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller would wait for twice as long."""
    attempts = []

    async def work(connection: AsyncConnection, attempt: int) -> None:
        attempts.append(attempt)
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(engine, 'TIMEOUT', 0.5)
        with pytest.raises(OutcomeUnknown):
            await connector.write(work)
    assert attempts == [1]
    await until(lambda: 'WARNING the database is available again' in logged(caplog))


TIMEOUT_AND_STOP = """
import asyncio, sys
from asgilook.errors import DatabaseUnavailable
from asgilook.index import engine
from asgilook.index.connection import Connector

async def work(connection, attempt):
    await asyncio.Event().wait()

async def main():
    for passes in range(30):
        engine.TIMEOUT = 60
        connector = Connector(sys.argv[1])
        await connector.start()
        engine.TIMEOUT = 0.01
        try:
            await connector.write(work)
        except DatabaseUnavailable:
            print('timeout')
        for _ in range(passes):
            await asyncio.sleep(0)
        await connector.stop()

asyncio.run(main())
"""


def test_stop_after_timeout_leaves_no_task(sqlite: str) -> None:
    """Whatever the connector is doing: it closes the connection, and opens another."""
    assert run('-c', TIMEOUT_AND_STOP, sqlite).stdout == 'timeout\n' * 30


async def test_full_database(connector: Connector, sqlite_db: SQLite) -> None:
    async def fill(connection: AsyncConnection, attempt: int) -> None:
        await connection.execute(text('CREATE TABLE t AS SELECT zeroblob(100000)'))

    await connector.write(scalar('PRAGMA max_page_count = 1'))
    with pytest.raises(StorageFull):
        await connector.write(fill)
    assert sqlite_db.execute("SELECT * FROM sqlite_master WHERE name = 't'") == []


@pytest.mark.usefixtures('short_timeouts')
async def test_locked_sqlite_database_is_unavailable(
    sqlite_db: SQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the image is known not to be listed."""
    monkeypatch.setattr(engine, 'STATEMENT_TIMEOUT', 0.01)
    async with running(sqlite_db.url) as index:
        with closing(sqlite3.connect(sqlite_db.path)) as other:
            other.execute('BEGIN IMMEDIATE')
            with pytest.raises(DatabaseUnavailable) as caught:
                await index.add(IMAGE)
            assert type(caught.value) is DatabaseUnavailable
        await wait_until_usable(index)
        await index.add(IMAGE)
        assert (await index.page(1)).images == [IMAGE]
