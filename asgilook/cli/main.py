"""Command line: `python -m asgilook`, or the installed script `asgilook`.

Parses the arguments and runs a command; each command imports what it needs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..config import Config, ConfigError, describe

_OWN_OPTIONS = ('-h', '--help', '--version')

_IMPORT = """
Import all images in a folder, with the same checks and limits as for uploads. The id of
an image is derived from the content of its file, so duplicates and images that are
already stored are skipped: run the command again to resume an interrupted import.
Images that were deleted from the service are imported again. Hidden files are skipped,
and links to folders are not followed. Rejected files are listed on standard error, with
the reason. With --from-storage, all images of another storage are copied unchanged
instead; each copy is read back and compared, and images that are already stored are
skipped. Exit codes: 0 all images are stored, 1 some are not, 130 interrupted with
Ctrl+C.
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
    """Insert `serve` if no command is named, as in `python -m asgilook --port 8001`."""
    if not argv or (argv[0].startswith('-') and argv[0] not in _OWN_OPTIONS):
        return ['serve', *argv]
    return argv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='asgilook',
        description='An image service. Settings are environment variables: '
        'see `asgilook config`.',
        epilog='The default command is `serve`: its options --host, --port and '
        '--workers can be used without it; see `asgilook serve --help`. Exit codes: '
        '0 success, 1 a problem was found, 2 wrong usage or invalid settings, 3 the '
        'service could not start.',
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    _add_serve(commands)
    _add(commands, 'config', _config, 'print the effective settings')
    _add_healthcheck(commands)
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
    serve.add_argument(
        '--host', default='127.0.0.1', help='address to bind; default: %(default)s'
    )
    serve.add_argument(
        '--port',
        type=_port,
        default=8000,
        help='port to bind, 0 for any free one; default: %(default)s',
    )
    serve.add_argument(
        '--workers',
        type=_workers,
        default=1,
        help='number of worker processes; default: %(default)s',
    )


def _add_healthcheck(commands: Any) -> None:
    check = _add(
        commands, 'healthcheck', _healthcheck, 'check that a running service is ready'
    )
    check.add_argument(
        '--url',
        default='http://127.0.0.1:8000',
        help='base URL of the service; default: %(default)s',
    )
    check.add_argument(
        '--wait',
        metavar='SECONDS',
        type=_seconds,
        default=0,
        help='maximum time to wait until it is ready; default: %(default)s',
    )


def _add_import(commands: Any) -> None:
    importer = _add(commands, 'import', _import, 'import a folder of images')
    importer.description = _IMPORT
    importer.add_argument(
        'folder', metavar='FOLDER', nargs='?', help='folder to import, with subfolders'
    )
    importer.add_argument(
        '--from-storage',
        metavar='URL',
        help='copy all images of this storage (file:///path or s3://bucket/prefix), '
        'with their ids and times, instead of importing a folder',
    )
    importer.add_argument(
        '--from-database', metavar='URL', help='database of that storage, if it has one'
    )


def _add_check(commands: Any) -> None:
    check = _add(
        commands, 'check', _check, 'compare the stored files with the list of images'
    )
    check.add_argument(
        '--remove-orphans',
        action='store_true',
        help='remove files that belong to no image in the list',
    )
    check.add_argument(
        '--younger',
        metavar='SECONDS',
        type=_seconds,
        default=3600,
        help='ignore unlisted files younger than this, which may belong to an upload '
        'in progress; default: %(default)s',
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


def _serve(args: argparse.Namespace) -> int:
    from .serve import serve

    return serve(args.host, args.port, args.workers)


def _healthcheck(args: argparse.Namespace) -> int:
    from .healthcheck import wait_for_health

    try:
        ready, state = wait_for_health(args.url, args.wait)
    except ValueError as ex:
        raise ConfigError(f'--url {args.url!r}: {ex}') from None
    print(state)
    return 0 if ready else 1


def _import(args: argparse.Namespace) -> int:
    from .import_folder import import_folder
    from .migrate import migrate
    from .places import prepared

    if (args.folder is None) == (args.from_storage is None):
        raise ConfigError('import needs either a FOLDER or --from-storage')
    if args.from_database and not args.from_storage:
        raise ConfigError('--from-database requires --from-storage')
    config = prepared(Config())
    if args.from_storage is not None:
        return migrate(config, args.from_storage, args.from_database)
    return import_folder(config, args.folder)


def _check(args: argparse.Namespace) -> int:
    from .check import check
    from .places import prepared

    return check(prepared(Config()), args.younger, remove=args.remove_orphans)
