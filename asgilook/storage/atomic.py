"""Atomic, durable files: complete or absent, also after kill -9 or a power failure.

A new file is written under a temporary name in the same folder, flushed to disk and
renamed. The process that writes it holds a lock (flock) on it, so that the sweep of
another process can distinguish it from the leftovers of a dead process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import (
    AsgilookError,
    ImageExists,
    ImageNotFound,
    StorageFull,
    StorageUnavailable,
)

TEMPORARY = '.asgilook-'

_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP})

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Map an OSError of the storage folder to `StorageFull` or `StorageUnavailable`."""
    try:
        yield
    except OSError as ex:
        raise domain_error(ex) from ex


def domain_error(ex: OSError) -> AsgilookError:
    """Return the domain exception for an OSError of the storage folder."""
    if ex.errno in FULL:
        return StorageFull('The storage is full.')
    return StorageUnavailable('The storage is unavailable.', 5)


class NewFile:
    """A file that is being written: `publish` it, or `close` it to discard it.

    With `replaces` it may replace a file of the same name; unless `durable` it is not
    flushed to disk. Raises OSError if the folder is not writable.
    """

    def __init__(
        self, folder: str, *, replaces: bool = True, durable: bool = True
    ) -> None:
        self._folder = folder
        self._replaces = replaces
        self._durable = durable
        self._path, self.file = _open_locked(folder)

    def publish(
        self, image_id: str, modified_ns: int | None = None, *, exclusive: bool = False
    ) -> tuple[int, int]:
        """Rename the file, durably; return its length and `modified_ns`.

        The modification time is set here, in full precision: the file system's clock
        ticks in milliseconds, too coarse to keep uploads in order. Raises
        `ImageExists` if the file is `exclusive` or does not replace another one.
        """
        self.file.flush()
        modified = time.time_ns() if modified_ns is None else modified_ns
        os.utime(self.file.fileno(), ns=(modified, modified))
        if self._durable:
            os.fsync(self.file.fileno())
        path = os.path.join(self._folder, image_id)
        is_new = not os.path.lexists(path)
        if self._replaces and not exclusive:
            os.replace(self._path, path)
        else:
            _rename_new(self._path, path)
        self._path = ''
        if self._durable:
            try:
                sync_folder(self._folder)
            except OSError:
                if is_new:
                    os.unlink(path)
                raise
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Remove the file unless it was published."""
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self.file.close()


def _open_locked(folder: str) -> tuple[str, BinaryIO]:
    while True:
        path = os.path.join(folder, TEMPORARY + secrets.token_hex(8))
        file = open(path, 'x+b')  # noqa: SIM115 (the caller closes it)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            is_linked = os.fstat(file.fileno()).st_nlink > 0
        except OSError:
            file.close()
            os.unlink(path)
            raise
        if is_linked:
            return path, file
        file.close()  # removed by a sweep between open and flock


def _rename_new(temporary: str, path: str) -> None:
    """Rename a file; raise `ImageExists` if another one has that name.

    Without hard links the name is reserved with an empty file, which a crash may leave.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise ImageExists('An image with this id already exists.') from None
    except OSError:
        _reserve_and_rename(temporary, path)
    else:
        os.unlink(temporary)


def _reserve_and_rename(temporary: str, path: str) -> None:
    try:
        open(path, 'x').close()
    except FileExistsError:
        raise ImageExists('An image with this id already exists.') from None
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(path)
        raise


def sync_folder(folder: str) -> None:
    """Flush the entries of the folder to disk, if the file system can do that."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as ex:
        if ex.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(fd)


def sweep(folder: str) -> int:
    """Remove temporary files of dead processes; return how many.

    What cannot be removed stays, such as files of another user.
    """
    swept = 0
    for name in os.listdir(folder):
        if name.startswith(TEMPORARY):
            with contextlib.suppress(OSError):
                swept += _remove_dead(os.path.join(folder, name))
    return swept


def _remove_dead(path: str) -> bool:
    with open(path, 'r+b') as file:  # NFS locks only files that can be written
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.unlink(path)
        return True


def remove(path: str) -> None:
    """Remove a published file durably; raise `ImageNotFound` if there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        raise ImageNotFound('Image not found.') from None
    with contextlib.suppress(OSError):  # the file is gone
        sync_folder(os.path.dirname(path))


def open_without_blocking(path: str, flags: int) -> int:
    """Open a file; as an `opener`, so that a pipe without a writer does not block."""
    return os.open(path, flags | os.O_NONBLOCK)
