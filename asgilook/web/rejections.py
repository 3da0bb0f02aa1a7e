"""Responses of the server itself, to requests that no app should see."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from .asgi_types import Headers, Receive, Scope, Send
from .problems import problem_response
from .record import REJECTION_KEY


def bad_request() -> bytes:
    """Return the whole response to data that is not HTTP."""
    date = formatdate(usegmt=True)
    headers = {'date': date, 'connection': 'close'}
    problem = problem_response(400, 'Malformed HTTP request.', headers=headers)
    lines = [f'{name}: {value}' for name, value in problem.headers.items()]
    head = '\r\n'.join(['HTTP/1.1 400 Bad Request', *lines, '\r\n'])
    return head.encode() + problem.body


def has_valid_host(headers: Headers, found: dict[bytes, bytes], version: str) -> bool:
    """Return whether there is one Host, or none in HTTP/1.0 (RFC 9112, section 3.2).

    `found` is a dict of the headers.
    """
    if b'host' not in found:
        return version == '1.0'
    # PERF: few requests repeat a header.
    if len(found) == len(headers):
        return True
    return [name for name, _ in headers].count(b'host') == 1


async def reject_host(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request without `Host`, or with more than one (ASGI app)."""
    sent = await send_problem(send, 400, 'Exactly one Host header is required.')
    _report(scope, 0 if scope['method'] == 'HEAD' else sent)


def report_unparsed(scope: Scope, state: dict[str, Any], sent: int) -> None:
    """Let the app log and count data that is not HTTP.

    `scope` is that of the connection, `state` that of the lifespan, and `sent` the
    length of the response's body.
    """
    _report(scope | _UNPARSED | {'state': state}, sent)


# The rest of the scope of data that is not a request.
_UNPARSED: Scope = {'method': '-', 'path': '-', 'query_string': b'', 'headers': []}


def _report(scope: Scope, sent: int) -> None:
    report = scope['state'].get(REJECTION_KEY)
    if report is not None:  # else it is another app
        report(scope, sent)


async def send_problem(send: Send, status: int, detail: str | None = None) -> int:
    """Respond with an error, and close the connection; return the body's length."""
    problem = problem_response(status, detail, headers={'connection': 'close'})
    headers = problem.asgi_headers()
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': problem.body})
    return len(problem.body)
