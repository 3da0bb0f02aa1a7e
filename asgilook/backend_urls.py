"""URLs of Redis, databases and storages, as settings have them."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

# Bucket names that every S3 accepts (those of AWS).
_BUCKET = re.compile('[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]')

_S3_OPTIONS = ('endpoint', 'region', 'access_key_id', 'secret_access_key')

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


def parse_servers(url: str) -> Servers:
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


def redis_url(value: str) -> str | None:
    """Parse the URL of a Redis, or none."""
    if value.lower() == 'none':
        return None
    if is_many(value):
        parse_servers(value)  # raises ValueError for what it can't be
        return value
    parts = _split(value)
    if parts.scheme not in ('redis', 'rediss', 'unix'):
        raise ValueError(
            'must be redis://, rediss://, unix://, redis+sentinel://, '
            'redis+cluster:// or none'
        )
    if parts.scheme != 'unix' and not re.fullmatch('/?[0-9]{0,4}', parts.path):
        raise ValueError('its path can only be the number of a database')
    return value


def database_url(value: str) -> str | None:
    """Parse the URL of a database, or none."""
    if value.lower() == 'none':
        return None
    parts = _split(value)
    database = parts.path.removeprefix('/')
    if parts.scheme == 'postgresql' and parts.hostname and not parts.fragment:
        if database and '/' not in database:
            return value
    elif parts.scheme == 'sqlite' and _is_path(value):
        return value
    raise ValueError(
        'must be postgresql://user:password@host/database, '
        'sqlite:///absolute/path, or none'
    )


def storage_url(value: str) -> str | None:
    """Parse the URL of a folder or of a bucket, or none."""
    if value.lower() == 'none':
        return None
    parts = _split(value)
    if parts.scheme == 's3' and not parts.fragment:
        if not _BUCKET.fullmatch(parts.netloc):
            raise ValueError('must name a bucket, as in s3://bucket/prefix')
        _check_endpoint(s3_options(value).get('endpoint', 'https://aws'))
    elif parts.scheme != 'file' or not _is_path(value):
        raise ValueError('must be s3://bucket/prefix, file:///path, or none')
    return value


def _is_path(url: str) -> bool:
    """Tell whether a URL is but an absolute path, other than the root."""
    return bool(re.fullmatch('[a-z]+:///[^?#]*[^?#/][^?#]*', url))


def s3_options(url: str) -> dict[str, str]:
    """Return the options in the query of an s3:// URL; raises ValueError."""
    options: dict[str, str] = {}
    for option in filter(None, urlsplit(url).query.split('&')):
        name, _, quoted = option.partition('=')
        if name not in _S3_OPTIONS or name in options or not quoted:
            raise ValueError(f'may have once each of {", ".join(_S3_OPTIONS)}')
        options[name] = unquote(quoted)
    if ('access_key_id' in options) != ('secret_access_key' in options):
        raise ValueError('must have both of access_key_id and secret_access_key')
    return options


def _check_endpoint(value: str) -> None:
    parts = _split(value)
    if parts.scheme not in ('http', 'https') or not parts.hostname or '@' in value:
        raise ValueError('must have an http:// or https:// URL as its endpoint')


def _split(value: str) -> SplitResult:
    """Split a URL; in no error is a part of it, which may be of a password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError('must be a URL, with a number as its port') from None
    return parts


def redact(url: str) -> str:
    """Hide the secrets of a URL, also of a malformed one, so that it can be logged."""
    url = re.sub(r'(?<=://)([^:@]*):.*@', r'\1:***@', url)
    return re.sub(r'([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*', r'\1***', url)
