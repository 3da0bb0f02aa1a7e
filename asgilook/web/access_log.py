"""The access log: one line per request, as text or JSON.

The lines go to the logger `asgilook.access`.
"""

from __future__ import annotations

import json
import logging

from .asgi_types import Scope
from .record import Record

log = logging.getLogger('asgilook.access')


def log_request(record: Record, scope: Scope, form: str) -> None:
    """Log a completed request; `form` is text, json or none."""
    if form == 'none' or not log.isEnabledFor(logging.INFO):
        return
    headers = dict(record.response_headers or ())
    fields = {
        'client': (scope.get('client') or ('-',))[0],
        'method': record.method,
        'target': _raw_target(scope),
        'status': record.status,
        'bytes': record.sent,
        'ms': round(record.seconds * 1000, 1),
        'cache': headers.get(b'x-asgilook-cache', b'-').decode(),
        'id': record.request_id.decode(),
    }
    extra = {'fields': fields}
    if form == 'json':
        log.info(json.dumps(fields), extra=extra)
    else:
        text = '%s "%s %s" %d %d bytes %.1f ms %s %s'
        log.info(text, *fields.values(), extra=extra)


def _raw_target(scope: Scope) -> str:
    """Return path and query as received: %-escaped, so that no line can be forged."""
    raw = scope.get('raw_path') or scope['path'].encode()
    query = scope['query_string']
    target: bytes = raw + b'?' + query if query else raw
    return target.decode('ascii', 'backslashreplace')
