"""An object of an object store as a file to read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import obstore


class ObjectReader(io.RawIOBase):
    """Reads in ranges, no more than asked, and one request for each `read`.

    It begins with a request for all, of which nothing is transferred until `read()`.

    Args:
        get: asks the store; raises `ImageNotFound` or `StorageUnavailable`.
        errors: gives these names to what goes wrong in a transfer.
    """

    def __init__(
        self,
        get: Callable[[obstore.GetOptions], obstore.GetResult],
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._get = get
        self._errors = errors
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
        """Move, without a request."""
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
        """Give the connection back."""
        self._whole = None
        super().close()

    def _fetch(self, start: int, stop: int) -> bytes:
        result, self._whole = self._whole, None
        if result is None or stop - start < self._size:
            del result
            result = self._get({'range': (start, stop), 'if_match': self._etag})
        with self._errors():
            return bytes(result.bytes())
