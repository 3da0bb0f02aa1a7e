"""Redis that is more than one real process: behind Sentinels, and as a Cluster."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .servers import HOST, Process, RedisServer, free_port, require

SERVICE = 'thumbs'


def clients(server: RedisServer) -> int:
    """Count the connections, this one among them."""
    return int(server.command('CLIENT LIST').count('\n'))


class Replica(RedisServer):
    """A copy of another server, once it has its data."""

    ready = 'Finished with success|Successful partial resync'

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder, options=f'--replicaof {HOST} {master.port}')


class Sentinel(Process):
    """A watcher of a master, which one watcher alone may depose."""

    ready = r'\+monitor master'

    def __init__(self, folder: Path, master: RedisServer) -> None:
        self.port = free_port()
        config = folder / f'sentinel-{self.port}.conf'
        config.write_text(
            f'bind {HOST}\nport {self.port}\ndir {folder}\n'
            f'sentinel monitor {SERVICE} {HOST} {master.port} 1\n'
            f'sentinel down-after-milliseconds {SERVICE} 500\n'
            f'sentinel failover-timeout {SERVICE} 5000\n'
        )
        super().__init__(folder, require('redis-server'), str(config), '--sentinel')


@contextlib.contextmanager
def behind_sentinels(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, str]]:
    """Start a master, a replica and two Sentinels; yield the two and their URL."""
    with contextlib.ExitStack() as stack:
        soon = '--repl-diskless-sync-delay 0'
        master = stack.enter_context(RedisServer(folder, options=soon))
        replica = stack.enter_context(Replica(folder, master))
        watchers = [stack.enter_context(Sentinel(folder, master)) for _ in range(2)]
        for watcher in watchers:
            watcher.logged(rf'\+slave slave {HOST}:{replica.port}')
            watcher.logged(r'\+sentinel sentinel')
        nodes = ','.join(f'{HOST}:{watcher.port}' for watcher in watchers)
        yield master, replica, f'redis+sentinel://{nodes}/{SERVICE}'


def fail_over(master: RedisServer, replica: RedisServer) -> None:
    """Kill a master, and wait until its replica stands in for it."""
    master.kill()
    replica.logged('MASTER MODE enabled')


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[list[RedisServer], str]]:
    """Start a Cluster of three masters; yield them and a URL that names two."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(3):
            own = folder / f'node-{number}'
            own.mkdir()
            bus = f'--cluster-enabled yes --cluster-port {free_port()}'
            node = RedisServer(own, options=bus)
            nodes.append(stack.enter_context(node))
        addresses = [f'{HOST}:{node.port}' for node in nodes]
        create = [require('redis-cli'), '--cluster', 'create', *addresses]
        subprocess.run(
            [*create, '--cluster-yes'], check=True, capture_output=True, timeout=60
        )
        for node in nodes:
            node.logged('Cluster state changed: ok')
        yield nodes, f'redis+cluster://{addresses[0]},{addresses[1]}'
