"""What images can be kept in.

PostgreSQL is a real one; S3 is moto's server, over loopback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import urlencode

import asyncpg
import boto3
import pytest
from moto.server import ThreadedMotoServer

# Without the password where it trusts.
POSTGRES = 'postgresql://postgres:postgres@127.0.0.1:5432'

KEYS = {'access_key_id': 'test', 'secret_access_key': 'test', 'region': 'eu-central-1'}


def sql(url: str, *statements: str) -> list[Any]:
    """Run statements, each committed by itself; return the rows of the last one."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            for statement in statements:
                rows = await connection.fetch(statement)
        finally:
            await connection.close()
        return list(rows)

    return asyncio.run(run())


def _give_up(ex: Exception) -> NoReturn:
    """Skip the test, but fail in CI."""
    reason = f'no PostgreSQL at {POSTGRES}: {ex!r}'
    if os.environ.get('CI') == 'true':
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def database() -> Iterator[str]:
    """Make a database on the PostgreSQL of this machine, and drop it at the end."""
    name = f'asgilook_test_{uuid.uuid4().hex}'
    try:
        sql(f'{POSTGRES}/postgres', f'CREATE DATABASE {name}')
    except (OSError, asyncpg.PostgresError) as ex:
        _give_up(ex)
    try:
        yield f'{POSTGRES}/{name}'
    finally:
        sql(f'{POSTGRES}/postgres', f'DROP DATABASE {name} WITH (FORCE)')


@contextmanager
def schema(url: str) -> Iterator[str]:
    """Make a schema in a database; return the URL of a database that is only it."""
    name = f'test_{uuid.uuid4().hex}'
    sql(url, f'CREATE SCHEMA {name}')
    try:
        yield f'{url}?search_path={name}'
    finally:
        sql(url, f'DROP SCHEMA {name} CASCADE')


class S3:
    """moto's server: an S3 in this process, asked over loopback."""

    def __init__(self) -> None:
        logging.getLogger('werkzeug').setLevel(logging.WARNING)
        self._server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f'http://{host}:{port}'
        self.client = boto3.client(
            's3',
            endpoint_url=self.endpoint,
            aws_access_key_id=KEYS['access_key_id'],
            aws_secret_access_key=KEYS['secret_access_key'],
            region_name=KEYS['region'],
        )

    def make_bucket(self) -> str:
        """Make an empty bucket; return its URL, with a prefix, as a setting has it."""
        name = f'test-{uuid.uuid4().hex}'
        where = {'LocationConstraint': KEYS['region']}
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration=where)
        return f's3://{name}/a/b?{urlencode({"endpoint": self.endpoint, **KEYS})}'

    def stop(self) -> None:
        """End the server, and close what asks it."""
        self.client.close()
        self._server.stop()
