"""Clients of `benchmarks.chaos`, which check each answer."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType

from tests.servers import HOST

from .chaos_ledger import Ledger, Picture, make_picture

TOKEN = {'Authorization': 'Bearer s3cret'}

# Time limit of a response, in seconds; a frozen worker is replaced before.
TIMEOUT = 30

# Attempts of an upload or a deletion whose outcome is unknown.
ATTEMPTS = 8

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Lost(Exception):
    """A request without a complete response."""


class Connection:
    """A client's connection, kept open for some requests."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self._port = port
        self._ledger = ledger
        self._connection: http.client.HTTPConnection | None = None
        self._opened_at = 0.0

    def ask(
        self,
        action: str,
        method: str,
        path: str,
        body: bytes = b'',
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> tuple[int, bytes]:
        """Return status and body; raises `Lost`."""
        start = time.monotonic()
        if self._connection is None:
            self._opened_at = start
            self._connection = http.client.HTTPConnection(
                HOST, self._port, timeout=TIMEOUT
            )
        try:
            self._connection.request(method, path, body or None, dict(headers))
            with self._connection.getresponse() as response:
                data = response.read()
        except (OSError, http.client.HTTPException) as ex:
            self.close()
            seconds = time.monotonic() - start
            self._ledger.count(action, type(ex).__name__, seconds)
            if isinstance(ex, TimeoutError) or self._ledger.killed_at < self._opened_at:
                lost = f'no answer in {seconds:.0f} s ({ex!r})'
                self._ledger.violated(f'{lost}: {method} {path}')
            raise Lost from ex
        self._ledger.count(action, str(response.status), time.monotonic() - start)
        self._check(f'{method} {path}', response, data)
        return response.status, data

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _check(
        self, request: str, response: http.client.HTTPResponse, data: bytes
    ) -> None:
        status = response.status
        if status not in (200, 201, 204, 404, 503):
            self._ledger.violated(f'{request}: {status} {data[:300]!r}')
        if status == 503 and (
            response.headers['Content-Type'] != 'application/problem+json'
            or not response.headers['Retry-After']
        ):
            self._ledger.violated(f'{request}: incomplete 503 {response.headers}')


class Client(threading.Thread):
    """One client: uploads, reads what anyone has stored, deletes what it has stored.

    With `strict`, an image must not be served after its deletion was acknowledged. A
    service with a database serves images that were requested recently while it is
    unavailable, so that a deletion by another worker is not seen then.
    """

    def __init__(
        self, port: int, ledger: Ledger, seed: str, *, strict: bool, pause: float = 0.05
    ) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._connection = Connection(port, ledger)
        self._ledger = ledger
        self._random = random.Random(seed)
        self._strict = strict
        self._pause = pause
        self._over = threading.Event()
        self._own: list[Picture] = []

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        actions = [self._upload, self._read, self._thumbnail, self._list, self._remove]
        while not self._over.is_set():
            if self._random.random() < 0.3:
                self._connection.close()
            try:
                self._random.choices(actions, [3, 6, 4, 2, 1])[0]()
            except Lost:
                pass
            except Exception as ex:  # anything else is an answer of the wrong form
                self._ledger.violated(f'wrong answer: {ex!r}')
            self._over.wait(self._pause)
        self._connection.close()

    def _upload(self) -> None:
        keyed = self._random.random() < 0.5
        picture = make_picture(self._random, large=0.03, keyed=keyed)
        self._ledger.add(picture)
        for _ in range(ATTEMPTS if keyed else 1):
            if keyed and self._random.random() < 0.2:
                self._send_twice(picture)
            else:
                self._send(picture, self._connection)
            if picture.images:
                self._own.append(picture)
                self._check_list(picture, is_listed=True)
                break
            self._over.wait(1)

    def _send_twice(self, picture: Picture) -> None:
        """Send an upload on two connections at the same time."""
        other = Connection(self._port, self._ledger)
        thread = threading.Thread(target=self._send, args=(picture, other))
        thread.start()
        self._send(picture, self._connection)
        thread.join()
        other.close()

    def _send(self, picture: Picture, connection: Connection) -> None:
        picture.attempts += 1
        action, headers = 'POST', TOKEN
        if picture.key:
            action = 'POST with key'
            headers = {**TOKEN, 'Idempotency-Key': f'"{picture.key}"'}
        try:
            status, data = connection.ask(
                action, 'POST', '/images', picture.body, headers
            )
        except Lost:
            return
        if status == 201:
            image = json.loads(data)
            known = picture.images.setdefault(image['id'], image)
            if len(picture.images) > 1 or known != image:
                self._ledger.violated(f'another answer for one key: {picture.images}')
        elif status != 503:
            self._ledger.violated(f'upload: {status} {data[:300]!r}')

    def _check_list(self, picture: Picture, *, is_listed: bool) -> None:
        """Check that a list shows what has just been acknowledged."""
        status, data = self._connection.ask(
            'list', 'GET', '/images?order=newest&limit=300'
        )
        if status == 200 and (picture.image in json.loads(data)) is not is_listed:
            state = 'stored, but not' if is_listed else 'deleted, but'
            self._ledger.violated(f'{state} listed: {picture.image}')

    def _list(self) -> None:
        self._connection.ask('list', 'GET', '/images?limit=50')

    def _read(self) -> None:
        stored = self._ledger.stored()[-100:]
        if stored:
            picture = self._random.choice(stored)
            self._get('image', picture, picture.image['image'])

    def _thumbnail(self) -> None:
        stored = self._ledger.stored()[-100:]
        if stored:
            picture = self._random.choice(stored)
            uri = self._random.choice(picture.image['thumbnails'])
            if self._random.random() < 0.2:
                uri = uri.replace('.jpeg', '.webp')
            self._get('thumbnail', picture, uri)

    def _get(self, action: str, picture: Picture, uri: str) -> None:
        was_deleted = picture.deleted
        status, body = self._connection.ask(action, 'GET', uri)
        if status == 404 and not picture.doomed:
            self._ledger.violated(f'stored, but not found: {uri}')
        if status == 200 and was_deleted and self._strict:
            self._ledger.violated(f'served after its deletion: {uri}')
        if status == 200:
            self._ledger.check_bytes(picture, uri, body)

    def _remove(self) -> None:
        if not self._own:
            return
        picture = self._own.pop(self._random.randrange(len(self._own)))
        picture.doomed = True
        is_unknown = False
        for _ in range(ATTEMPTS):
            status = self._try_to_remove(picture)
            if status == 404 and not is_unknown:
                self._ledger.violated(f'stored, but not found: DELETE {picture.image}')
            if status in (204, 404):
                picture.deleted = True
                self._check_list(picture, is_listed=False)
                return
            is_unknown = True
            self._over.wait(1)

    def _try_to_remove(self, picture: Picture) -> int:
        try:
            uri = picture.image['image']
            return self._connection.ask('DELETE', 'DELETE', uri, headers=TOKEN)[0]
        except Lost:
            return 0
