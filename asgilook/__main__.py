"""The command line: `python -m asgilook`, or `asgilook` once it is installed."""

from __future__ import annotations

import argparse
import copy
import os
import sys
from typing import Any

import uvicorn
import uvicorn.config

from . import __version__
from .config import Config, ConfigError, describe
from .redis_library import create_driver
from .server import LimitedProtocol

# After SIGTERM: seconds until what is still under way is given up.
GRACEFUL_SHUTDOWN = 10

# Longer than the 60 s of the proxies in front: who closes first may lose a request.
KEEP_ALIVE = 65


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    try:
        config = Config()
        if args.command == 'serve':
            _make_folder(config.storage_path)
            create_driver(config)  # fails here where its library is missing
    except ConfigError as ex:
        print(f'asgilook: {ex}', file=sys.stderr)
        return 2
    if args.command == 'config':
        print(describe(config))
    else:
        _serve(args)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='asgilook',
        description='An image service. Settings come from the environment: '
        'see `asgilook config`.',
    )
    parser.add_argument(
        'command',
        nargs='?',
        default='serve',
        choices=['serve', 'config'],
        help='serve (the default), or print the settings in force',
    )
    parser.add_argument('--host', default='127.0.0.1', help='default: %(default)s')
    parser.add_argument(
        '--port', type=_port, default=8000, help='default: %(default)s; 0: any free one'
    )
    parser.add_argument(
        '--workers', type=_workers, default=1, help='processes; default: %(default)s'
    )
    parser.add_argument('--version', action='version', version=__version__)
    return parser


def _port(value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise argparse.ArgumentTypeError('must be from 0 to 65535')
    return int(value)


def _workers(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return int(value)


def _make_folder(path: str) -> None:
    """Fail here in one line, rather than in each of the workers that are to be."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as ex:
        raise ConfigError(f'ASGI_LOOK_STORAGE_PATH={path!r}: {ex.strerror}') from None


def _serve(args: argparse.Namespace) -> None:
    uvicorn.run(
        'asgilook.asgi:app',
        host=args.host,
        port=args.port,
        workers=args.workers,
        http=LimitedProtocol,
        ws='none',
        lifespan='on',
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        timeout_keep_alive=KEEP_ALIVE,
        server_header=False,
        access_log=False,
        log_config=_log_config(),
    )


def _log_config() -> dict[str, Any]:
    """Let the service's own log lines go where uvicorn's go."""
    log_config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    handlers, formatters = log_config['handlers'], log_config['formatters']
    log_config['loggers']['asgilook'] = {'handlers': ['default'], 'level': 'INFO'}
    formatters['line'] = {'format': '%(message)s'}
    handlers['line'] = {**handlers['access'], 'formatter': 'line'}
    log_config['loggers']['asgilook.access'] = {
        'handlers': ['line'],
        'propagate': False,
    }
    return log_config


if __name__ == '__main__':
    sys.exit(main())
