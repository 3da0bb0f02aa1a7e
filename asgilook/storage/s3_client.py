"""S3 client with short timeouts, a file object that reads ranges, and error mapping."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from ..backend_urls import s3_options
from ..concurrency import CircuitBreaker
from ..errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)

log = logging.getLogger(__name__)

# A failure that took longer than this blocked a thread: the circuit is opened, so that
# one call tries again at each interval and the others are rejected at once.
SLOW_SECONDS = 0.75
RETRY_INTERVAL = 4.0


def connect(url: str, timeout: float) -> S3Store:
    """Return a client that gives up when no data arrives for `timeout` seconds.

    Options that the URL lacks are read from the environment variables of AWS.
    """
    parts, options = urlsplit(url), s3_options(url)
    config: Any = {**options, 'disable_bulk_delete': True}  # not every store has it
    limit = timedelta(seconds=timeout)
    return S3Store(
        parts.netloc,
        prefix=unquote(parts.path).strip('/') or None,
        config=config,
        client_options={
            'allow_http': options.get('endpoint', '').startswith('http:'),
            'connect_timeout': min(limit, timedelta(seconds=2)),
            'read_timeout': limit,
            'timeout': max(limit * 2, timedelta(seconds=30)),
        },
        retry_config={
            'max_retries': 2,
            'retry_timeout': limit,
            'backoff': {
                'init_backoff': timedelta(milliseconds=50),
                'max_backoff': timedelta(milliseconds=500),
                'base': 2,
            },
        },
    )


class Guard:
    """Circuit breaker of an object store; maps errors to domain exceptions.

    Endpoints, keys and responses of the store never reach a client of the service.
    """

    def __init__(self) -> None:
        self._breaker = CircuitBreaker(RETRY_INTERVAL)

    @contextlib.contextmanager
    def call(self, *, may_open: bool = True) -> Iterator[None]:
        """Raise `StorageUnavailable`, `StorageFull`, `ImageExists`, `ImageNotFound`.

        A slow failure opens the circuit only if it `may_open`.
        """
        token = self._breaker.enter()
        if token is None:
            raise _unavailable()
        started = time.monotonic()
        try:
            yield
        except AlreadyExistsError:
            self._succeed(token)
            raise ImageExists('An image with this id already exists.') from None
        except (BaseError, FileNotFoundError) as ex:
            reason = loggable_reason(ex)
            if isinstance(ex, FileNotFoundError) and 'NoSuchBucket' not in reason:
                self._succeed(token)
                raise ImageNotFound('Image not found.') from None
            slow = time.monotonic() - started > SLOW_SECONDS
            may_open = may_open or self._breaker.is_open
            raise self._fail(token, reason, open_circuit=slow and may_open) from None
        self._succeed(token)

    def check(self) -> None:
        """Raise `StorageUnavailable` while calls are rejected, except for trials."""
        if self._breaker.is_open:
            raise _unavailable()

    def _succeed(self, token: int) -> None:
        if self._breaker.succeed(token):
            log.warning('object store available again')

    def _fail(self, token: int, reason: str, *, open_circuit: bool) -> AsgilookError:
        failing = self._breaker.failing
        if self._breaker.fail(token, open_circuit=open_circuit) and not failing:
            log.warning('object store unavailable: %s', reason)
        if 'status code: 507' in reason:
            return StorageFull('The storage is full.')
        return _unavailable()


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable('The storage is unavailable.', 5)


def loggable_reason(ex: Exception) -> str:
    """Return the part of an error's text that is safe to log.

    The rest may contain keys, or be very long.
    """
    # NOTE(obstore 0.12): an exception has no attributes, and GenericError stands for
    # most failures, so HTTP status and S3 error code are only in its text.
    code = re.search('<Code>([A-Za-z]{1,50})</Code>', str(ex))
    summary = re.split('[<\n]', str(ex), maxsplit=1)[0]
    return f'{summary.strip()} {code[1] if code else ""}'.strip()


class ObjectReader(io.RawIOBase):
    """File object that reads an object in ranges, one request for each `read`.

    It starts with a request for the whole object, whose body is not transferred until
    `read()`. Later requests are conditional: another object under the same key is an
    error.

    Args:
        get: requests the object; raises `ImageNotFound` or `StorageUnavailable`.
        guard: maps the errors of a transfer.
    """

    def __init__(
        self,
        *,
        get: Callable[[obstore.GetOptions], obstore.GetResult],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._get = get
        self._guard = guard
        self._whole: obstore.GetResult | None = get({})
        self._size = self._whole.meta['size']
        self._etag = self._whole.meta['e_tag']
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position, without a request."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""
        start, stop = self._position, self._size
        if size is not None and size >= 0:
            stop = min(stop, start + size)
        if start >= stop:
            return b''
        data = self._fetch(start, stop)
        self._position = stop
        return data

    def close(self) -> None:
        """Release the connection."""
        self._whole = None
        super().close()

    def _fetch(self, start: int, stop: int) -> bytes:
        result, self._whole = self._whole, None
        if result is None or stop - start < self._size:
            del result
            result = self._get({'range': (start, stop), 'if_match': self._etag})
        with self._guard():
            return bytes(result.bytes())
