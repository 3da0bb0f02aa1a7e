"""`asgilook healthcheck`: asks a service whether it is ready, as containers need it."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing
from urllib.parse import quote, urlsplit

PATH = '/healthz/ready'

# More than the service gives its own parts, less than what runs this would wait.
SECONDS = 3

_CONNECTIONS = {
    'http': http.client.HTTPConnection,
    'https': http.client.HTTPSConnection,
}


def ask(url: str) -> tuple[bool, str]:
    """Return whether the service at a base URL is ready, and its state in a line.

    Raises `ValueError` for what is no http or https URL.
    """
    connection, path = _prepare(url)
    with closing(connection):
        try:
            connection.request('GET', path)
            response = connection.getresponse()
            return response.status == 200, _describe(response)
        except (OSError, http.client.HTTPException) as ex:
            return False, f'no answer: {ex}'


def _prepare(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in _CONNECTIONS or not re.fullmatch(r'[!-~]+', parts.netloc):
        raise ValueError('must be http://HOST[:PORT] or https://HOST[:PORT]')
    host = parts.hostname or ''
    connection = _CONNECTIONS[parts.scheme](host, parts.port, timeout=SECONDS)
    return connection, quote(parts.path.rstrip('/')) + PATH


def _describe(response: http.client.HTTPResponse) -> str:
    """Write `ready (storage up, redis none)`, or the status where it says no state."""
    try:
        answer = json.loads(response.read(65536))
        return (
            f'{answer["state"]} (storage {answer["storage"]}, redis {answer["redis"]})'
        )
    except (ValueError, LookupError, TypeError):
        return f'HTTP status {response.status}'
