"""URLs of a Redis that is more than one server: behind Sentinels, or a Cluster."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_SHAPES = {
    'sentinel': 'redis+sentinel://[USER:PASSWORD@]HOST[:PORT],.../SERVICE[/DB]',
    'cluster': 'redis+cluster://[USER:PASSWORD@]HOST[:PORT],...',
}
_PORTS = {'sentinel': 26379, 'cluster': 6379}

_url = re.compile(
    r'redis\+(?P<kind>sentinel|cluster)://'
    r'(?:(?P<username>[^\s:@/?#]*):(?P<password>[^\s:@/?#]+)@)?'
    r'(?P<nodes>[^\s@/?#]+)'
    r'(?:/(?P<service>[^\s/?#]*)(?:/(?P<db>[0-9]{1,4}))?)?'
).fullmatch
_node = re.compile(
    r'(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?'
).fullmatch


class Servers(NamedTuple):
    """Where to ask for the server that has a key, and how to log in there.

    By `kind`, `nodes` are Sentinels, asked without a password for the master of
    `service`, or a few of the nodes of a Cluster.
    """

    kind: str
    nodes: list[tuple[str, int]]
    username: str | None
    password: str | None
    service: str
    db: int


def is_many(url: str) -> bool:
    """Tell whether a URL is one of these, or means to be one."""
    return url.startswith('redis+')


def parse(url: str) -> Servers:
    """Take a URL apart; raises ValueError with the shapes that it may have."""
    found = _url(url)
    if found is None or not _has_its_path(found):
        raise ValueError(f'must be {" or ".join(_SHAPES.values())}')
    kind, username, password = found.group('kind', 'username', 'password')
    return Servers(
        kind,
        [_parse_node(node, _PORTS[kind]) for node in found['nodes'].split(',')],
        unquote(username) if username else None,
        unquote(password) if password else None,
        found['service'] or '',
        int(found['db'] or 0),
    )


def _has_its_path(found: re.Match[str]) -> bool:
    """Check that a service is named where there is one to name, and only there."""
    if found['kind'] == 'sentinel':
        return bool(found['service'])
    return not found['service'] and found['db'] is None


def _parse_node(node: str, default_port: int) -> tuple[str, int]:
    found = _node(node)
    port = int(found['port'] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f'{node!r} must be HOST or HOST:PORT')
    return found['ipv6'] or found['name'], port
