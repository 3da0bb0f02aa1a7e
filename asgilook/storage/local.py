"""Local folder of a storage: created when possible, its failures mapped and logged."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator

from ..errors import AsgilookError
from . import atomic

log = logging.getLogger(__name__)

# Free space, in bytes, below which a folder counts as full; and from which a full
# folder is reported as usable again, so that the log does not alternate with each small
# upload.
MIN_FREE = 1024 * 1024
MIN_FREE_AGAIN = 32 * 1024 * 1024

# Unreadable and damaged images to remember, so that each is logged once.
MAX_IMAGES = 1000

# Errors of the process, not of a file.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# What fails: writing, listing, an image id, or this prefix with an image id.
_WRITING, _LISTING, _DAMAGED = 'writing', 'listing', 'damaged:'


class LocalFolder:
    """A folder for image files, or for uploads in progress; any thread may use it.

    A WARNING is logged when the folder or an image starts to fail, and another one when
    it works again.

    Attributes:
        path: path of the folder.
        unreadable: path of a file if no image in the folder can be read, set by the
            index.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.unreadable: str | None = None
        self._prepared = False
        self._lock = threading.Lock()
        self._failing: dict[str, int | None] = {}

    def prepare(self) -> bool:
        """Create the folder, remove leftovers; return whether it could be done.

        It is done once, and tried again at each call until then: a folder that
        disappears later is not created again, as it may be an unmounted file system.
        """
        if not self._prepared:
            try:
                os.makedirs(self.path, exist_ok=True)
                swept = atomic.sweep(self.path)
            except OSError as ex:
                self.writing_failed(ex)
                return False
            self._prepared = True
            if swept:
                log.info('removed %d temporary files of interrupted uploads', swept)
        return True

    def probe(self) -> bool:
        """Return whether files can be read and written now, without writing one."""
        if not self.prepare():
            return False
        try:
            free = self._measure()
        except OSError as ex:
            self.writing_failed(ex)
            return False
        code = self._failing.get(_WRITING)
        if code not in atomic.FULL or (code == errno.ENOSPC and free >= MIN_FREE_AGAIN):
            self.written()
        return self._can_read()

    def _measure(self) -> int:
        """Return the free space; raise OSError if no file can be written."""
        status = os.statvfs(f'{self.path}/.')
        if not os.access(f'{self.path}/.', os.R_OK | os.W_OK | os.X_OK):
            code = errno.EROFS if status.f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code))
        free = status.f_bavail * status.f_frsize
        has_inodes = status.f_favail > 0 or status.f_files == 0  # some report none
        if not has_inodes or free < MIN_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return free

    def _can_read(self) -> bool:
        try:
            if self.unreadable is not None:
                with open(self.unreadable, 'rb') as file:
                    file.read(1)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Map and log an OSError of a write; call `written` once a file is complete."""
        try:
            yield
        except OSError as ex:
            raise self.writing_failed(ex) from ex

    def writing_failed(self, ex: OSError) -> AsgilookError:
        """Log a failure, and return its domain exception."""
        reason = f'storage folder {self.path}: {describe(ex)}'
        self._begin(_WRITING, f'{reason}; uploads are rejected', ex.errno)
        return atomic.domain_error(ex)

    def written(self) -> None:
        """Note that files can be written."""
        self._end(_WRITING, f'storage folder {self.path}: uploads are accepted again')

    @contextlib.contextmanager
    def listing(self) -> Iterator[None]:
        """Map and log an OSError while the folder is listed."""
        try:
            yield
        except OSError as ex:
            raise self.listing_failed(ex) from ex
        self._end(_LISTING, f'storage folder {self.path}: images can be listed again')

    def listing_failed(self, ex: OSError) -> AsgilookError:
        """Log a failure, and return its domain exception."""
        reason = f'storage folder {self.path}: {describe(ex)}'
        self._begin(_LISTING, f'{reason}; images cannot be listed', ex.errno)
        return atomic.domain_error(ex)

    @contextlib.contextmanager
    def reading(self, image_id: str) -> Iterator[None]:
        """Map and log an OSError of an image file."""
        try:
            yield
        except OSError as ex:
            reason = f'image file {self.path}/{image_id}: {describe(ex)}'
            self._begin(image_id, f'{reason}; requests for it fail', ex.errno)
            raise atomic.domain_error(ex) from ex

    def was_read(self, image_id: str) -> None:
        """Note that an image file was read to its end."""
        self._end(image_id, f'image file {self.path}/{image_id} can be read again')

    def damaged(self, image_id: str, reason: str) -> None:
        """Log that a stored image can't be decoded."""
        message = f'stored image {image_id} is damaged: {reason}; its thumbnails fail'
        self._begin(_DAMAGED + image_id, message, None)

    def intact(self, image_id: str) -> None:
        """Note that a stored image was decoded."""
        self.was_read(image_id)
        message = f'stored image {image_id} can be decoded again'
        self._end(_DAMAGED + image_id, message)

    def forget(self, image_id: str) -> None:
        """Forget the failures of an image that was removed."""
        with self._lock:
            self._failing.pop(image_id, None)
            self._failing.pop(_DAMAGED + image_id, None)

    def _begin(self, subject: str, message: str, code: int | None) -> None:
        with self._lock:
            if subject in self._failing:
                return
            if len(self._failing) >= MAX_IMAGES:
                images = (s for s in self._failing if s not in (_WRITING, _LISTING))
                del self._failing[next(images)]
            self._failing[subject] = code
        log.warning('%s', message)

    def _end(self, subject: str, message: str) -> None:
        with self._lock:
            if subject not in self._failing:
                return
            del self._failing[subject]
        log.warning('%s', message)


def describe(ex: OSError) -> str:
    """Return the text and the name of an error, such as `Permission denied (EACCES)`.

    Without its path, which may be that of a temporary file.
    """
    if ex.errno is None:
        return str(ex)
    return f'{os.strerror(ex.errno)} ({errno.errorcode.get(ex.errno, ex.errno)})'
