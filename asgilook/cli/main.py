"""The command line: `python -m asgilook`, or `asgilook` once it is installed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from .. import __version__
from ..config import Config, ConfigError, describe
from ..web.access_log import log_config
from ..web.uvicorn_protocol import LimitedProtocol, raise_file_limit
from ..worker_files import shared_folder
from . import healthcheck
from .places import prepared

# After SIGTERM: seconds until what is still under way is given up.
GRACEFUL_SHUTDOWN = 10

# Longer than the 60 s of the proxies in front: who closes first may lose a request.
KEEP_ALIVE = 65

_OWN_OPTIONS = ('-h', '--help', '--version')

_IMPORT = """
Take in every picture of a folder, as if each had been uploaded, with the same limits.
The id of an image is made from the bytes of its file: what is there already, equal
files too, is passed over, so that a run that was cut off is gone on with by running
it again. What was deleted comes back. Hidden files are left out, and links to folders
are not followed. Files that are refused are told on standard error, each with its
reason. With --from-storage instead, all images of another storage come over as they
are, each copy is read again and compared, and what is there already is passed over:
from a folder to a bucket with a database, and back. Exit codes: 0 all are there, 1 some
are not, 130 stopped by Ctrl-C.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(_complete(sys.argv[1:] if argv is None else argv))
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as ex:
        print(f'asgilook: {ex}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `asgilook check | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _complete(argv: list[str]) -> list[str]:
    """Serve where no command is named, as in `python -m asgilook --port 8001`."""
    if not argv or (argv[0].startswith('-') and argv[0] not in _OWN_OPTIONS):
        return ['serve', *argv]
    return argv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='asgilook',
        description='An image service. Settings come from the environment: '
        'see `asgilook config`.',
        epilog='Without a command it serves, and takes --host, --port and --workers: '
        'see `asgilook serve --help`. Exit codes: 0 all is well, 1 something '
        'is not, 2 wrong usage or settings, 3 the service could not start.',
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    _add_serve(commands)
    _add(commands, 'config', _config, 'print the settings in force')
    check = _add(
        commands, 'healthcheck', _healthcheck, 'ask a service whether it is ready'
    )
    check.add_argument(
        '--url', default='http://127.0.0.1:8000', help='default: %(default)s'
    )
    _add_import(commands)
    _add_check(commands)
    return parser


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], help_: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_, description=f'{help_[0].upper()}{help_[1:]}.'
    )
    command.set_defaults(run=run)
    return command


def _add_serve(commands: Any) -> None:
    serve = _add(commands, 'serve', _serve, 'serve images over HTTP (the default)')
    serve.add_argument('--host', default='127.0.0.1', help='default: %(default)s')
    serve.add_argument(
        '--port', type=_port, default=8000, help='default: %(default)s; 0: any free one'
    )
    serve.add_argument(
        '--workers', type=_workers, default=1, help='processes; default: %(default)s'
    )


def _add_import(commands: Any) -> None:
    importer = _add(commands, 'import', _import, 'take in a folder of pictures')
    importer.description = _IMPORT
    importer.add_argument(
        'folder', metavar='FOLDER', nargs='?', help='with all folders below it'
    )
    importer.add_argument(
        '--from-storage',
        metavar='URL',
        help='instead: all images of this storage (file:///path, s3://bucket/prefix), '
        'with their ids and times',
    )
    importer.add_argument(
        '--from-database',
        metavar='URL',
        help='the index of that storage, if it has one',
    )


def _add_check(commands: Any) -> None:
    check = _add(commands, 'check', _check, 'compare the files with the list of images')
    check.add_argument(
        '--remove-orphans', action='store_true', help='remove files that are not listed'
    )
    check.add_argument(
        '--younger',
        metavar='SECONDS',
        type=_seconds,
        default=3600,
        help='pass over such files of the last seconds, as they may be on their way; '
        'default: %(default)s',
    )


def _port(value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise argparse.ArgumentTypeError('must be from 0 to 65535')
    return int(value)


def _seconds(value: str) -> int:
    if not re.fullmatch('[0-9]{1,9}', value):
        raise argparse.ArgumentTypeError('must be a number of seconds')
    return int(value)


def _workers(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return int(value)


def _config(args: argparse.Namespace) -> int:
    print(describe(Config()))
    return 0


def _healthcheck(args: argparse.Namespace) -> int:
    try:
        ready, state = healthcheck.ask(args.url)
    except ValueError as ex:
        raise ConfigError(f'--url {args.url!r}: {ex}') from None
    print(state)
    return 0 if ready else 1


def _import(args: argparse.Namespace) -> int:
    from .import_folder import (
        import_folder,  # the supervisor of workers needs no Pillow
    )
    from .migrate import migrate

    if (args.folder is None) == (args.from_storage is None):
        raise ConfigError('import takes either a FOLDER or --from-storage')
    if args.from_database and not args.from_storage:
        raise ConfigError('--from-database goes with --from-storage')
    config = prepared(Config())
    if args.from_storage is not None:
        return migrate(config, args.from_storage, args.from_database)
    return import_folder(config, args.folder)


def _check(args: argparse.Namespace) -> int:
    from .check import check

    return check(prepared(Config()), args.younger, remove=args.remove_orphans)


def _serve(args: argparse.Namespace) -> int:
    prepared(Config())
    raise_file_limit()
    with shared_folder(args.workers):
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
            log_config=log_config(),
        )
    return 0
