"""`asgilook serve`: runs uvicorn with the settings that the service needs."""

from __future__ import annotations

import uvicorn

from ..config import Config
from ..web.connections import raise_file_limit
from ..web.log_format import log_config
from ..web.uvicorn_protocol import LimitedProtocol
from ..worker_files import shared_folder
from .places import prepared

# After SIGTERM, time limit for requests in progress, in seconds.
GRACEFUL_SHUTDOWN = 10

# NOTE(proxies): longer than their usual 60 seconds. If this side closes an idle
# connection first, a request that is on its way is lost.
KEEP_ALIVE = 65


def serve(host: str, port: int, workers: int) -> int:
    """Serve until a signal ends the process; return the exit code.

    Raises `ConfigError` for a wrong setting.
    """
    config = prepared(Config())
    raise_file_limit()
    with shared_folder(workers):
        uvicorn.run(
            'asgilook.asgi:app',
            host=host,
            port=port,
            workers=workers,
            http=LimitedProtocol,
            ws='none',
            lifespan='on',
            timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
            timeout_keep_alive=KEEP_ALIVE,
            server_header=False,
            access_log=False,
            log_config=log_config(config.access_log),
        )
    return 0
