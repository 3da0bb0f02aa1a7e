"""Parsers for the URLs of Redis, databases and storages in the settings."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

# The bucket names of AWS, which other object stores accept, too.
_BUCKET = re.compile('[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]')

_S3_OPTIONS = ('endpoint', 'region', 'access_key_id', 'secret_access_key')

# The number of a Redis database.
_DATABASE = '0|[1-9][0-9]{0,3}'

_FORMS = {
    'sentinel': 'redis+sentinel://[USER:PASSWORD@]HOST[:PORT],.../SERVICE[/DB]',
    'cluster': 'redis+cluster://[USER:PASSWORD@]HOST[:PORT],...',
}
_DEFAULT_PORTS = {'sentinel': 26379, 'cluster': 6379}

_url = re.compile(
    r'redis\+(?P<kind>sentinel|cluster)://'
    r'(?:(?P<username>[^\s:@/?#]*):(?P<password>[^\s:@/?#]+)@)?'
    r'(?P<nodes>[^\s@/?#]+)'
    r'(?:/(?P<service>[^\s/?#]*)(?:/(?P<db>[0-9]{1,4}))?)?'
).fullmatch
_node = re.compile(
    r'(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?'
).fullmatch


class Nodes(NamedTuple):
    """Entry points to several Redis servers.

    Depending on `kind`, `addresses` are those of Sentinels, which need no password and
    know the master of `service`, or those of some nodes of a Cluster.
    """

    kind: str
    addresses: list[tuple[str, int]]
    username: str | None
    password: str | None
    service: str
    db: int


def has_many_nodes(url: str) -> bool:
    """Return whether a URL, valid or not, is of Sentinels or a Cluster."""
    return url.startswith('redis+')


def parse_nodes(url: str) -> Nodes:
    """Parse a URL of Sentinels or a Cluster; raises ValueError."""
    match = _url(url)
    if match is None or not _has_valid_path(match):
        raise ValueError(f'must be {" or ".join(_FORMS.values())}')
    kind, username, password = match.group('kind', 'username', 'password')
    default_port = _DEFAULT_PORTS[kind]
    return Nodes(
        kind,
        [_parse_address(node, default_port) for node in match['nodes'].split(',')],
        unquote(username) if username else None,
        unquote(password) if password else None,
        match['service'] or '',
        int(match['db'] or 0),
    )


def _has_valid_path(match: re.Match[str]) -> bool:
    """Return whether there is a service for Sentinels, and no path for a Cluster."""
    if match['kind'] == 'sentinel':
        return bool(match['service'])
    return not match['service'] and match['db'] is None


def _parse_address(node: str, default_port: int) -> tuple[str, int]:
    match = _node(node)
    port = int(match['port'] or default_port) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f'{node!r} must be HOST or HOST:PORT')
    return match['ipv6'] or match['name'], port


def redis_url(value: str) -> str | None:
    """Parse the URL of a Redis server; None for `none`."""
    if value.lower() == 'none':
        return None
    if has_many_nodes(value):
        parse_nodes(value)  # raises ValueError if it is invalid
        return value
    parts = _split(value)
    if parts.scheme not in ('redis', 'rediss', 'unix'):
        raise ValueError(
            'must be redis:// (such as redis://localhost), rediss://, unix://, '
            'redis+sentinel://, redis+cluster:// or none'
        )
    if parts.scheme == 'unix':
        # redis-py, which is used for user names, accepts them before the path.
        if not parts.path or parts.hostname or (parts.netloc and not parts.username):
            raise ValueError('must be unix:///PATH or unix:///PATH?password=PASSWORD')
    elif not re.fullmatch(f'(/({_DATABASE})?)?', parts.path):
        raise ValueError('must have a database number as its path, or no path')
    _check_redis_options(parts)
    return value


def _check_redis_options(parts: SplitResult) -> None:
    """Raise ValueError for options that aioredis rejects, or that break the cache."""
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs) or not all(options.values()):
        raise ValueError('must have each option once, and with a value')
    if 'encoding' in options:
        raise ValueError('must not have the option encoding: cached values are bytes')
    if parts.password and 'password' in options:
        raise ValueError('must have one password')
    if 'db' in options:
        has_other = parts.scheme != 'unix' and parts.path.strip('/')
        if has_other or not re.fullmatch(_DATABASE, options['db']):
            raise ValueError('must have one database, a number such as 0 or 15')


def database_url(value: str) -> str | None:
    """Parse the URL of a database; None for `none`."""
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
    """Parse the URL of a folder or a bucket; None for `none`."""
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
    """Return whether a URL has only an absolute path, other than the root."""
    return bool(re.fullmatch('[a-z]+:///[^?#]*[^?#/][^?#]*', url))


def s3_options(url: str) -> dict[str, str]:
    """Return the options in the query of an s3:// URL; raises ValueError."""
    options: dict[str, str] = {}
    for option in filter(None, urlsplit(url).query.split('&')):
        name, _, quoted = option.partition('=')
        if name not in _S3_OPTIONS or name in options or not quoted:
            raise ValueError(
                f'accepts only the options {", ".join(_S3_OPTIONS)}, each once'
            )
        options[name] = unquote(quoted)
    if ('access_key_id' in options) != ('secret_access_key' in options):
        raise ValueError(
            'must have both access_key_id and secret_access_key, or neither'
        )
    return options


def _check_endpoint(value: str) -> None:
    parts = _split(value)
    if parts.scheme not in ('http', 'https') or not parts.hostname or '@' in value:
        raise ValueError('must have an http:// or https:// URL as its endpoint')


def _split(value: str) -> SplitResult:
    """Split a URL; no error message quotes it, as it may contain a password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError('must be a URL; its port, if any, must be a number') from None
    return parts


def redact(url: str) -> str:
    """Mask the secrets in a URL, valid or not, for messages and logs."""
    url = re.sub(r'(?<=://)([^:]*):.*@', r'\1:***@', url, flags=re.DOTALL)
    return re.sub(r'([?&][^=&]*(?:password|secret|token)[^=&]*=)[^&]*', r'\1***', url)
