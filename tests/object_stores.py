"""Object stores of the tests: that of moto, and a real SeaweedFS."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .proxy import Proxy
from .servers import HOST, Process, is_free, own_ports, require, until

KEYS = {'access_key_id': 'test', 'secret_access_key': 'test', 'region': 'eu-central-1'}


class ObjectStore(Protocol):
    """A running S3 server; `client` accesses it past the service."""

    port: int
    endpoint: str
    client: Any


def connect(endpoint: str) -> Any:
    """Return a client of boto3 that fails at once, or within seconds."""
    return boto3.client(
        's3',
        endpoint_url=endpoint,
        aws_access_key_id=KEYS['access_key_id'],
        aws_secret_access_key=KEYS['secret_access_key'],
        region_name=KEYS['region'],
        config=Config(
            connect_timeout=5, read_timeout=10, retries={'total_max_attempts': 1}
        ),
    )


def url_of(bucket: str, endpoint: str) -> str:
    """Return the URL of a bucket, with a prefix, as a setting has it."""
    return f's3://{bucket}/a/b?{urlencode({"endpoint": endpoint, **KEYS})}'


def name_of(url: str) -> str:
    """Return the name of the bucket of a URL."""
    return urlsplit(url).netloc


def behind(proxy: Proxy, url: str) -> str:
    """Return the URL of a bucket behind a proxy."""
    return url_of(name_of(url), f'http://{HOST}:{proxy.port}')


def create_bucket(store: ObjectStore) -> str:
    """Create an empty bucket; return its URL."""
    name = f'test-{uuid.uuid4().hex}'
    where = {'LocationConstraint': KEYS['region']}
    store.client.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    return url_of(name, store.endpoint)


@contextlib.contextmanager
def new_bucket(store: ObjectStore) -> Iterator[str]:
    """Create an empty bucket, and remove it at the end; yield its URL."""
    url = create_bucket(store)
    yield url
    remove_bucket(store, url)


def remove_bucket(store: ObjectStore, url: str) -> None:
    """Remove a bucket and its objects; nothing happens if there is none."""
    bucket = {'Bucket': name_of(url)}
    with contextlib.suppress(store.client.exceptions.NoSuchBucket):
        for page in store.client.get_paginator('list_objects_v2').paginate(**bucket):
            if keys := [{'Key': found['Key']} for found in page.get('Contents', ())]:
                store.client.delete_objects(**bucket, Delete={'Objects': keys})
        store.client.delete_bucket(**bucket)


class Moto(Process):
    """moto's server: an S3 in the memory of a process.

    A process of its own, as some tests take away the open files of theirs.
    """

    ready = 'Running on '

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        command = sys.executable, '-m', 'moto.server', '-H', HOST, '-p', str(self.port)
        super().__init__(folder, *command)
        self.endpoint = f'http://{HOST}:{self.port}'
        self.client = connect(self.endpoint)

    def stop(self, number: int = 0) -> int:
        """Kill it, and close its client."""
        self.client.close()
        self.kill()
        return 0


# The distance between a port of SeaweedFS and that of its gRPC server.
GRPC_OFFSET = 10_000


class SeaweedFS(Process):
    """A SeaweedFS of one process, with its files below `folder`.

    A second one with the same folder and the ports of the first one continues it.
    """

    def __init__(self, folder: Path, ports: tuple[int, ...] | None = None) -> None:
        self.ports = ports or free_ports(4)
        master, volume, filer, self.port = self.ports
        data, keys = folder / 'seaweedfs', folder / 's3.json'
        data.mkdir(exist_ok=True)
        keys.write_text(json.dumps(_IDENTITIES))
        super().__init__(
            folder,
            require('weed'),
            'server',
            f'-dir={data}',
            f'-ip={HOST}',
            f'-ip.bind={HOST}',
            f'-master.port={master}',
            '-master.electionTimeout=1s',
            '-master.telemetry=false',
            '-master.volumeSizeLimitMB=64',
            f'-volume.port={volume}',
            '-volume.max=50',
            '-filer',
            f'-filer.port={filer}',
            '-s3',
            f'-s3.port={self.port}',
            f'-s3.config={keys}',
            '-s3.autoCreateBucket=false',
            '-s3.port.iceberg=0',
            '-s3.port.lance=0',
            # One volume for a bucket, not seven.
            environ={**os.environ, 'WEED_MASTER_VOLUME_GROWTH_COPY_1': '1'},
        )
        self.endpoint = f'http://{HOST}:{self.port}'
        self.client = connect(self.endpoint)

    def __enter__(self) -> SeaweedFS:
        super().__enter__()
        try:
            until(self._can_write)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, number: int = 0) -> int:
        """Kill it, as it takes 15 s to stop at a signal; its files are complete."""
        self.client.close()
        self.kill()
        for port in (*self.ports, *(port + GRPC_OFFSET for port in self.ports)):
            for socket_left in Path('/tmp').glob(f'seaweedfs-*-{port}.sock'):
                socket_left.unlink(missing_ok=True)
        return 0

    def kill(self) -> None:
        """Kill it, and remove the sockets that it leaves."""
        super().kill()
        for port in (*self.ports, *(port + GRPC_OFFSET for port in self.ports)):
            for path in Path('/tmp').glob(f'seaweedfs-*-{port}.sock'):
                path.unlink(missing_ok=True)

    def _can_write(self) -> bool:
        """Return whether the S3 server has found the servers that it needs."""
        assert self._popen.poll() is None, self.log
        errors = self.client.exceptions
        try:
            with contextlib.suppress(
                errors.BucketAlreadyExists, errors.BucketAlreadyOwnedByYou
            ):
                self.client.create_bucket(Bucket='is-ready')
            self.client.put_object(Bucket='is-ready', Key='x', Body=b'x')
        except (BotoCoreError, ClientError):
            return False
        return True


_IDENTITIES = {
    'identities': [
        {
            'name': 'test',
            'credentials': [
                {
                    'accessKey': KEYS['access_key_id'],
                    'secretKey': KEYS['secret_access_key'],
                }
            ],
            'actions': ['Admin', 'Read', 'Write', 'List'],
        }
    ]
}


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports that are free, as are those of their gRPC servers."""
    free = (port for port in _ports if is_free(port) and is_free(port + GRPC_OFFSET))
    return tuple(itertools.islice(free, count))


_ports = own_ports(16_500)  # SeaweedFS adds 10,000 for gRPC
