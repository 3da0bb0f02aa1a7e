"""Responses of the server itself, to requests that no app should see."""

from __future__ import annotations

from email.utils import formatdate

from .asgi_types import Receive, Scope, Send
from .problems import problem_response


def bad_request() -> bytes:
    """Return the whole response to data that is not HTTP."""
    date = formatdate(usegmt=True)
    headers = {'date': date, 'connection': 'close'}
    problem = problem_response(400, 'Malformed HTTP request.', headers=headers)
    lines = [f'{name}: {value}' for name, value in problem.headers.items()]
    head = '\r\n'.join(['HTTP/1.1 400 Bad Request', *lines, '\r\n'])
    return head.encode() + problem.body


async def reject_host(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request without `Host`, or with more than one (ASGI app)."""
    await send_problem(send, 400, 'Exactly one Host header is required.')


async def send_problem(send: Send, status: int, detail: str | None = None) -> None:
    """Respond with an error, and close the connection."""
    problem = problem_response(status, detail, headers={'connection': 'close'})
    headers = problem.asgi_headers()
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': problem.body})
