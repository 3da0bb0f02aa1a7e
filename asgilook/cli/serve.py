"""`asgilook serve`: runs uvicorn with the settings that the service needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.config
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from ..config import Config
from ..metrics.worker_files import shared_folder
from ..web.connections import raise_file_limit
from ..web.log_format import log_config
from ..web.uvicorn_protocol import LimitedProtocol
from .places import prepared
from .summary import find_redis, log_advice, summarize
from .supervisor import COULD_NOT_START, GRACEFUL_SHUTDOWN_TIMEOUT, supervise

log = logging.getLogger(__name__)

# NOTE(proxies): longer than their usual 60 seconds. If this side closes an idle
# connection first, a request that is on its way is lost.
KEEP_ALIVE_TIMEOUT = 65

# Maximum time for a new worker to start at a reload, in seconds.
START_TIMEOUT = 60


def serve(host: str, port: int, workers: int) -> int:
    """Serve until a signal ends the process; return the exit code.

    The exit code is 0 after SIGINT and SIGTERM, and 3 if the service could not start.
    Raises `ConfigError` for a wrong setting.
    """
    with _exit_on_signals():
        try:
            return _serve(host, port, workers)
        except SystemExit:  # from uvicorn
            return COULD_NOT_START


@contextlib.contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Exit at once, with code 0, on a signal that no server handles.

    NOTE(uvicorn): once it has shut down, a server raises again the signals that it has
    handled. By default, SIGTERM would then end the process with the signal as status.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {
        number: signal.signal(number, lambda *_: os._exit(0)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def bind_error(host: str, port: int) -> OSError | None:
    """Return the error of listening there; uvicorn's own message lacks the port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as ex:
        return ex
    return None


def _serve(host: str, port: int, workers: int) -> int:
    config = prepared(Config())
    logging.config.dictConfig(log_config(config.access_log))
    if error := bind_error(host, port):
        log.error(
            'cannot listen on port %d of %s: %s; choose another --port or --host',
            port,
            host,
            error.strerror,
        )
        return COULD_NOT_START
    raise_file_limit()
    options: dict[str, Any] = {
        'host': host,
        'port': port,
        'http': LimitedProtocol,
        'ws': 'none',
        'lifespan': 'on',
        'timeout_graceful_shutdown': GRACEFUL_SHUTDOWN_TIMEOUT,
        'timeout_keep_alive': KEEP_ALIVE_TIMEOUT,
        'timeout_worker_healthcheck': START_TIMEOUT,
        'server_header': False,
        # Only the access log shows the client's address.
        'proxy_headers': config.access_log != 'none',
        'access_log': False,
        'log_config': log_config(config.access_log),
    }
    state = asyncio.run(find_redis(config))
    log.info(summarize(config, redis_state=state, host=host, port=port))
    log_advice(config, os.environ, host)
    if workers == 1:
        uvicorn.run('asgilook.asgi:app', **options)
        return 0
    app = 'asgilook.cli.supervisor:worker_app'
    with shared_folder(workers):
        return supervise(uvicorn.Config(app, factory=True, workers=workers, **options))
