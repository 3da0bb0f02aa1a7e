"""TCP proxy between the service and a real server, to cut and freeze connections."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

T = TypeVar('T')

HOST = '127.0.0.1'


@dataclasses.dataclass
class Exchange:
    """An HTTP request, and the length of its response so far, with the head."""

    method: str
    path: str
    received: int = 0


class Proxy:
    """Forwards to a local port, in its own thread.

    Attributes:
        delay: seconds before each chunk of at most 64 KiB is forwarded.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.connections = 0  # accepted in total
        self.lost = 0  # replies dropped
        self.delay = 0.0
        self._upstream = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers: set[asyncio.StreamWriter] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._listening: socket.socket | None = None
        self._mark, self._reject = b'', False

    def __enter__(self) -> Self:
        self._thread.start()
        self.thaw()
        self.restore()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def restore(self) -> None:
        """Accept connections, always on the same port."""
        self._run(self._listen())

    def cut(self) -> None:
        """Reject new connections and abort the open ones."""
        self._run(self._cut())

    def freeze(self) -> None:
        """Stop forwarding, with all connections open."""
        self._run(self._set_flowing(False))

    def thaw(self) -> None:
        """Forward what has arrived in the meantime, and continue."""
        self._run(self._set_flowing(True))

    def lose(self, mark: bytes, *, reject: bool = False) -> None:
        """Abort the connection instead of forwarding the next reply with `mark` in it.

        With `reject`, also reject new connections after that.
        """
        self._mark, self._reject = mark, reject

    def observe(self, connection: int, data: bytes, *, is_answer: bool) -> None:
        """Note a chunk before it is forwarded."""

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _listen(self) -> None:
        # NOTE(asyncio): an `asyncio.Server` that is closed leaks a connection that it
        # has just accepted, at least in Python 3.11.
        self._listening = socket.create_server((HOST, self.port))
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        self._loop.add_reader(self._listening, self._accept, self._listening)

    async def _set_flowing(self, flowing: bool) -> None:
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _cut(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        await self._cut()
        # Connections that are being accepted would leak their sockets.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for pump in self._pumps:
                pump.cancel()
            await asyncio.wait(tasks)
            await self._cut()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has hung up
            client, _ = listening.accept()
            self._start(self._connect(client, listening), self._connecting)

    async def _connect(self, client: socket.socket, listening: socket.socket) -> None:
        self.connections += 1
        number = self.connections
        reader, writer = await asyncio.open_connection(sock=client)
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            writer.transport.abort()
            return
        if self._listening is not listening:  # it was cut in the meantime
            writer.transport.abort()
            up_writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        for pump in (
            self._pump(reader, up_writer, number, is_answer=False),
            self._pump(up_reader, writer, number, is_answer=True),
        ):
            self._start(pump, self._pumps)

    def _start(
        self, coroutine: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]
    ) -> None:
        """Run a coroutine in a task, which is one of `tasks` until its end."""
        task = self._loop.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: int,
        *,
        is_answer: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                await asyncio.sleep(self.delay)
                if is_answer and self._mark and self._mark in data:
                    self._mark = b''
                    self.lost += 1
                    if self._reject:
                        await self._cut()
                    break
                self.observe(connection, data, is_answer=is_answer)
                writer.write(data)
        writer.transport.abort()
        self._writers.discard(writer)


class HTTPProxy(Proxy):
    """A proxy that notes requests, each of which begins a chunk.

    Attributes:
        exchanges: requests in the order of their arrival.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.exchanges: list[Exchange] = []
        self._latest: dict[int, Exchange] = {}

    def observe(self, connection: int, data: bytes, *, is_answer: bool) -> None:
        """Note a request, or how much longer its response is."""
        if is_answer:
            self._latest[connection].received += len(data)
        elif request := re.match(rb'([A-Z]+) (\S+) HTTP/1.1\r\n', data):
            method, path = request[1].decode(), request[2].decode()
            self._latest[connection] = Exchange(method, path)
            self.exchanges.append(self._latest[connection])
