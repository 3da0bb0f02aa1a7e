"""Redis deployments of several real processes: Sentinel and Cluster."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .servers import HOST, Process, RedisServer, free_port, require

SERVICE = 'thumbs'


def clients(server: RedisServer) -> int:
    """Count the open connections, including this one."""
    return int(server.command('CLIENT LIST').count('\n'))


class Replica(RedisServer):
    """A replica, ready once it is in sync with its master."""

    ready = 'Finished with success|Successful partial resync'

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder, options=f'--replicaof {HOST} {master.port}')


class Sentinel(Process):
    """A Sentinel of a master, with a quorum of one."""

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
    """Start two Sentinels; yield their master, its replica, and the URL."""
    with contextlib.ExitStack() as stack:
        options = '--repl-diskless-sync-delay 0'
        master = stack.enter_context(RedisServer(folder, options=options))
        replica = stack.enter_context(Replica(folder, master))
        sentinels = [stack.enter_context(Sentinel(folder, master)) for _ in range(2)]
        for sentinel in sentinels:
            sentinel.logged(rf'\+slave slave {HOST}:{replica.port}')
            sentinel.logged(r'\+sentinel sentinel')
        nodes = ','.join(f'{HOST}:{sentinel.port}' for sentinel in sentinels)
        yield master, replica, f'redis+sentinel://{nodes}/{SERVICE}'


def fail_over(master: RedisServer, replica: RedisServer) -> None:
    """Kill a master, and wait until its replica is promoted."""
    master.kill()
    replica.logged('MASTER MODE enabled')


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[list[RedisServer], str]]:
    """Start a Cluster of three masters; yield them and a URL with two of them."""
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
