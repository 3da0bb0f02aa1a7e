"""Domain exceptions.

Clients see their messages, which state what is wrong with the request, and never reveal
where the service stores its files.
"""

from __future__ import annotations


class AsgilookError(Exception):
    """Base class of all domain exceptions."""


class ImageNotFound(AsgilookError):
    """There is no such image, or no such size of it."""


class InvalidRequest(AsgilookError):
    """A parameter is invalid, or the request body is empty or incomplete."""


class BodyTimeout(AsgilookError):
    """The client stopped sending its body."""


class UploadTooLarge(AsgilookError):
    """The upload has more bytes or pixels than the settings allow."""


class UnsupportedFormat(AsgilookError):
    """The upload is not an image of an accepted format."""


class ImageDamaged(AsgilookError):
    """An image of an accepted format can't be decoded, or can't be stored as JPEG."""


class StorageFull(AsgilookError):
    """There is no space for another image."""


class StoredImageDamaged(AsgilookError):
    """A stored file is damaged, which is not the client's fault."""


class Unavailable(AsgilookError):
    """The request may succeed after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Unavailable):
    """The queue of jobs is full."""


class StorageUnavailable(Unavailable):
    """The storage or the index is missing, read-only, broken or unreachable."""


class ImageUnreadable(StorageUnavailable):
    """The file of an image exists, but can't be read."""


class DatabaseUnavailable(StorageUnavailable):
    """The database can't be reached, whatever the request is."""


class OutcomeUnknown(DatabaseUnavailable):
    """The database became unavailable during a write, which it may have executed."""


class ImageExists(StorageUnavailable):
    """There is another image with this id, which is not replaced."""


class ImageReplaced(Unavailable):
    """The requested file has been replaced by another one."""


class DeadlineExceeded(Unavailable):
    """A job took longer than `render_timeout`."""
