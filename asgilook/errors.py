"""Domain exceptions.

Their messages are shown to clients: they say what is wrong with the request, and never
where the service keeps its files.
"""

from __future__ import annotations


class AsgilookError(Exception):
    """Base of everything that the service raises on purpose."""


class ImageNotFound(AsgilookError):
    """No such image, or no such size of it."""


class InvalidRequest(AsgilookError):
    """A wrong parameter, an empty or an incomplete body."""


class BodyTimeout(AsgilookError):
    """The client stopped sending its body."""


class UploadTooLarge(AsgilookError):
    """More bytes or more pixels than the settings allow."""


class UnsupportedFormat(AsgilookError):
    """Not an image of an accepted format."""


class ImageDamaged(AsgilookError):
    """An accepted format, but it can't be decoded, or can't be stored as JPEG."""


class StorageFull(AsgilookError):
    """No room left for another image."""


class StoredImageDamaged(AsgilookError):
    """A stored file was damaged from outside: the service's fault, not the client's."""


class Unavailable(AsgilookError):
    """Not now; `retry_after` says in how many seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Unavailable):
    """More work is waiting than `queue_size`."""


class StorageUnavailable(Unavailable):
    """The storage or the index is missing, read-only, broken or out of reach."""


class ImageUnreadable(StorageUnavailable):
    """The file of an image exists, but can't be read."""


class DatabaseUnavailable(StorageUnavailable):
    """The database can't be reached: not down to what it was asked."""


class OutcomeUnknown(DatabaseUnavailable):
    """The database was lost while it wrote: that may be done, or be done yet."""


class ImageExists(StorageUnavailable):
    """There is another image of this id, which is not replaced."""


class ImageReplaced(Unavailable):
    """The stored file is not the one that was asked for: it has been replaced."""


class DeadlineExceeded(Unavailable):
    """A job took longer than `render_timeout`."""
