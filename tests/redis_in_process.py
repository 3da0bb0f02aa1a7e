"""A Redis inside this process: birdisle where it is installed, or else fakeredis.

birdisle is Redis itself, but has wheels only for Python 3.11 and older on x86-64.
"""

from __future__ import annotations

import importlib.util
import socket
import threading
from abc import ABC, abstractmethod
from typing import Any

import aioredis.parser
import aioredis.util
import fakeredis
from fakeredis.model import AccessControlList

HAS_BIRDISLE = importlib.util.find_spec('birdisle') is not None

_COUNTED = ('getrange', 'set', 'del')


class RedisServer(ABC):
    """A server; the tests talk to it past the service.

    `address` is the argument of `create_pool`, which is a `create_redis_pool`.
    """

    address: Any

    @abstractmethod
    async def create_pool(self, address: Any) -> Any:
        """Return a pool of aioredis."""

    @abstractmethod
    def connect(self) -> socket.socket:
        """Return a connected socket."""

    @abstractmethod
    def calls(self) -> int:
        """Count the commands of the service since `reset`."""

    @abstractmethod
    def close(self) -> None:
        """Stop the server."""

    def execute(self, *command: Any) -> Any:
        """Run a command and return its reply."""
        reader = aioredis.parser.Reader()
        with self.connect() as sock:
            sock.sendall(aioredis.util.encode_command(*command))
            while (reply := reader.gets()) is False:
                reader.feed(sock.recv(2**16))
        return reply

    def reset(self) -> None:
        """Forget all keys and calls."""
        self.execute('FLUSHALL')

    def keys(self) -> set[str]:
        """Return all keys."""
        return {key.decode() for key in self.execute('KEYS', '*')}


class Birdisle(RedisServer):
    """The engine of Redis 5."""

    def __init__(self) -> None:
        import birdisle.aioredis

        self.address = birdisle.Server()
        self._create_pool = birdisle.aioredis.create_redis_pool

    async def create_pool(self, address: Any) -> Any:
        return await self._create_pool(address)

    def connect(self) -> socket.socket:
        sock: socket.socket = self.address.connect()
        return sock

    def calls(self) -> int:
        lines = self.execute('INFO', 'commandstats').decode().split()
        return sum(
            int(line.partition('calls=')[2].partition(',')[0])
            for line in lines
            if line.startswith(tuple(f'cmdstat_{name}' for name in _COUNTED))
        )

    def reset(self) -> None:
        super().reset()
        self.execute('CONFIG', 'RESETSTAT')

    def close(self) -> None:
        self.address.close()


class _Commands(AccessControlList):
    """The commands that fakeredis has been asked for: it checks each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def validate_command(self, username: Any, client_info: Any, fields: Any) -> None:
        self.count += fields[0].decode().lower() in _COUNTED
        super().validate_command(username, client_info, fields)


class FakeRedis(RedisServer):
    """fakeredis, over loopback."""

    def __init__(self) -> None:
        self._commands = _Commands()
        self._server = fakeredis.TcpFakeServer(('127.0.0.1', 0))
        self._server.fake_server.acl = self._commands
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        _, self._port = self._server.server_address[:2]
        self.address = f'redis://127.0.0.1:{self._port}'

    async def create_pool(self, address: Any) -> Any:
        return await aioredis.create_redis_pool(address)

    def connect(self) -> socket.socket:
        return socket.create_connection(('127.0.0.1', self._port))

    def calls(self) -> int:
        return self._commands.count

    def reset(self) -> None:
        super().reset()
        self._commands.count = 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def start() -> RedisServer:
    """Start the server that this Python has."""
    return Birdisle() if HAS_BIRDISLE else FakeRedis()
