"""A client of an object store that doesn't wait long, and what its errors mean."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from ..backend_urls import s3_options
from ..errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)

log = logging.getLogger(__name__)

# A fault that took longer than this is one of those that hold up a thread: then one
# request tries again every few seconds, and the others are refused at once.
SLOW_SECONDS = 0.75
RETRY_SECONDS = 4.0


def connect(url: str, seconds: float) -> S3Store:
    """Make a client that gives up where nothing comes for `seconds`.

    What the URL doesn't say comes from the environment, as AWS names it.
    """
    parts, options = urlsplit(url), s3_options(url)
    config: Any = {**options, 'disable_bulk_delete': True}  # some stores have none
    patience = timedelta(seconds=seconds)
    return S3Store(
        parts.netloc,
        prefix=unquote(parts.path).strip('/') or None,
        config=config,
        client_options={
            'allow_http': options.get('endpoint', '').startswith('http:'),
            'connect_timeout': min(patience, timedelta(seconds=2)),
            'read_timeout': patience,
            'timeout': max(patience * 2, timedelta(seconds=30)),
        },
        retry_config={
            'max_retries': 2,
            'retry_timeout': patience,
            'backoff': {
                'init_backoff': timedelta(milliseconds=50),
                'max_backoff': timedelta(milliseconds=500),
                'base': 2,
            },
        },
    )


class Faults:
    """What goes wrong with an object store: its name, and a line in the log.

    No endpoint, key or answer of the store gets to a client of the service.
    """

    def __init__(self) -> None:
        self._down = False
        self._retry_at: float | None = None

    @contextlib.contextmanager
    def named(self, *, keeps_away: bool = True) -> Iterator[None]:
        """Raise `StorageUnavailable`, `StorageFull`, `ImageExists`, `ImageNotFound`.

        Where it `keeps_away`, a fault that took long lets others be refused at once.
        """
        began = time.monotonic()
        if self._retry_at is not None:
            if began < self._retry_at:
                raise _unavailable()
            self._retry_at = began + RETRY_SECONDS
        try:
            yield
        except AlreadyExistsError:
            self._worked()
            raise ImageExists('Another image has this id.') from None
        except (BaseError, FileNotFoundError) as ex:
            reason = _reason(ex)
            if isinstance(ex, FileNotFoundError) and 'NoSuchBucket' not in reason:
                self._worked()
                raise ImageNotFound('There is no such image.') from None
            if keeps_away and time.monotonic() - began > SLOW_SECONDS:
                self._retry_at = time.monotonic() + RETRY_SECONDS
            raise self._failed(reason) from None
        self._worked()

    def _worked(self) -> None:
        self._retry_at = None
        if self._down:
            self._down = False
            log.warning('the object store is back')

    def _failed(self, reason: str) -> AsgilookError:
        if not self._down:
            self._down = True
            log.warning("the object store can't be used: %s", reason)
        if 'status code: 507' in reason:
            return StorageFull('No room is left for another image.')
        return _unavailable()


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable("The storage can't be used now.", 5)


def _reason(ex: Exception) -> str:
    """Return what the log may show: the rest can have keys in it, or be very long.

    The status and S3's code are in this text only.
    """
    code = re.search('<Code>([A-Za-z]{1,50})</Code>', str(ex))
    summary = re.split('[<\n]', str(ex), maxsplit=1)[0]
    return f'{summary.strip()} {code[1] if code else ""}'.strip()
