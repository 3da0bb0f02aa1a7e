"""`asgilook healthcheck`: checks that a service is ready, as in containers."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import quote, urlsplit

PATH = '/healthz/ready'

# In seconds. Longer than the service's own checks take, shorter than the usual
# timeout of the programs that run this command.
TIMEOUT = 3

# Time between two checks while waiting, in seconds.
RETRY_INTERVAL = 0.2

_COMPONENTS = ('storage', 'database', 'redis')

_CONNECTIONS = {
    'http': http.client.HTTPConnection,
    'https': http.client.HTTPSConnection,
}


def check_health(url: str) -> tuple[bool, str]:
    """Return whether the service at a base URL is ready, and one line on its state.

    Raises `ValueError` for anything but an http or https URL.
    """
    connection, path = _prepare(url)
    with closing(connection):
        try:
            connection.request('GET', path)
            response = connection.getresponse()
            return response.status == 200, _describe(response)
        except (OSError, http.client.HTTPException) as ex:
            return False, f'no response: {ex}'


def wait_for_health(
    url: str, seconds: float, *, sleep: Callable[[float], None] = time.sleep
) -> tuple[bool, str]:
    """Repeat `check_health` until the service is ready or `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        ready, state = check_health(url)
        if ready or time.monotonic() >= deadline:
            return ready, state
        sleep(RETRY_INTERVAL)


def _prepare(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in _CONNECTIONS or not re.fullmatch(r'[!-~]+', parts.netloc):
        raise ValueError('must be http://HOST[:PORT] or https://HOST[:PORT]')
    host = parts.hostname or ''
    connection = _CONNECTIONS[parts.scheme](host, parts.port, timeout=TIMEOUT)
    return connection, quote(parts.path.rstrip('/')) + PATH


def _describe(response: http.client.HTTPResponse) -> str:
    """Return `ready (storage up, redis none)`, or the status if no state is given."""
    try:
        answer = json.loads(response.read(65536))
        known = [f'{name} {answer[name]}' for name in _COMPONENTS if name in answer]
        return f'{answer["state"]} ({", ".join(known)})'
    except (ValueError, LookupError, TypeError):
        return f'HTTP status {response.status}'
