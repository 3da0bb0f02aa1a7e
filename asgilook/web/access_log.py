"""One line a request: what was asked, what was answered, how long it took.

The lines go to the logger `asgilook.access`, as text or as JSON. Every request has an
id, taken over from `X-Request-ID` where that is sane. The response has it too where
somebody may ask for it: in answer to a given one, and with a fault of the service.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import uvicorn.config

from .asgi_types import Headers, Scope, Send

log = logging.getLogger('asgilook.access')

Count = Callable[[Scope, int, int, float], None]

_SANE_ID = re.compile(rb'[A-Za-z0-9._:/+=-]{1,128}')

_process = secrets.token_hex(4)
_numbers = itertools.count(1)


class Exchange:
    """A request and what was answered to it, as seen from outside the app."""

    __slots__ = (
        '_count',
        '_given',
        '_is_counted',
        '_scope',
        '_send',
        '_sent',
        '_start',
        'headers',
        'status',
    )

    def __init__(self, scope: Scope, send: Send, count: Count) -> None:
        self._start = time.perf_counter()
        self._scope = scope
        self._send = send
        self._count = count
        self._is_counted = False
        self.status = 500
        self._sent = 0
        self.headers: Headers = []
        # Falcon's TestClient gives iterators, which can be read only once.
        scope['headers'] = [(name, value) for name, value in scope['headers']]
        scope['fields'] = dict(scope['headers'])
        self._given = _given_id(scope)
        scope['request_id'] = self._given or f'{_process}-{next(_numbers):x}'

    async def send(self, message: Any) -> None:
        """Pass a message on, and remember what it says."""
        if message['type'] == 'http.response.start':
            self.status, self.headers = message['status'], message['headers']
            if self._given or self.status >= 500:
                request_id: str = self._scope['request_id']
                self.headers.append((b'x-request-id', request_id.encode()))
        else:
            self._sent += len(message.get('body', b''))
            if not message.get('more_body'):
                # NOTE(metrics): counted before the client can know the response, so
                # that no kill of this process and no scrape of another one misses it.
                self.count()
        await self._send(message)

    def count(self) -> None:
        """Call `count(scope, status, bytes sent, seconds)`, once."""
        if not self._is_counted:
            self._is_counted = True
            seconds = time.perf_counter() - self._start
            self._count(self._scope, self.status, self._sent, seconds)

    def log(self, form: str) -> None:
        """Write the line, in the form text or json; none for none."""
        if form == 'none' or not log.isEnabledFor(logging.INFO):
            return
        fields = {
            'client': (self._scope.get('client') or ('-',))[0],
            'method': self._scope['method'],
            'target': _target(self._scope),
            'status': self.status,
            'bytes': self._sent,
            'ms': round((time.perf_counter() - self._start) * 1000, 1),
            'cache': dict(self.headers).get(b'x-asgilook-cache', b'-').decode(),
            'id': self._scope['request_id'],
        }
        if form == 'json':
            log.info(json.dumps(fields))
        else:
            log.info('%s "%s %s" %d %d bytes %.1f ms %s %s', *fields.values())


def _given_id(scope: Scope) -> str | None:
    value = scope['fields'].get(b'x-request-id')
    return str(value, 'ascii') if value and _SANE_ID.fullmatch(value) else None


def _target(scope: Scope) -> str:
    """Return path and query as they came: %-escaped, so that no line can be forged."""
    raw = scope.get('raw_path') or scope['path'].encode()
    query = scope['query_string']
    target: bytes = raw + b'?' + query if query else raw
    return target.decode('ascii', 'backslashreplace')


def log_config() -> dict[str, Any]:
    """Let the service's own log lines go where uvicorn's go."""
    settings = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    handlers, formatters = settings['handlers'], settings['formatters']
    settings['loggers']['asgilook'] = {'handlers': ['default'], 'level': 'INFO'}
    formatters['line'] = {'format': '%(message)s'}
    handlers['line'] = {**handlers['access'], 'formatter': 'line'}
    settings['loggers']['asgilook.access'] = {
        'handlers': ['line'],
        'propagate': False,
    }
    return settings
