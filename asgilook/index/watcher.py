"""The storage folder, as it is read: one file, all of them, or what has changed.

inotify tells of a change before the call that made it returns, in any process of the
machine: so whoever asks after a POST or DELETE was answered hears of it, and a list
costs as much as what has changed, not as what is there. Where it can't be had, the
folder's modification time tells that a list must be made anew.
"""

from __future__ import annotations

import concurrent.futures
import errno
import logging
import os
import time
from collections.abc import Collection

import inotify_simple
from inotify_simple import flags

from ..errors import StorageUnavailable
from ..imaging import jpeg
from ..models import UUID, Image
from ..storage import previews
from ..storage.atomic import storage_errors

log = logging.getLogger(__name__)

# File systems stamp changes with a clock that ticks every 1 to 10 ms: two changes in
# one tick leave the same time.
TICK_NS = 20_000_000

_CHANGES = (
    flags.CREATE
    | flags.CLOSE_WRITE
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.ONLYDIR
)
_LOST = flags.Q_OVERFLOW | flags.IGNORED | flags.UNMOUNT
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_THREADS = 4
_CHUNK = 2000


class Folder:
    """The files of one storage folder; every method may raise `StorageUnavailable`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inotify: inotify_simple.INotify | None = None

    def path(self, image_id: str) -> str:
        """Where the file of an image lies."""
        return f'{self._path}/{image_id}'

    def status(self, image_id: str) -> os.stat_result | None:
        """Return the status of an image's file at this moment; None for no file."""
        try:
            return os.stat(self.path(image_id))
        except FileNotFoundError:
            self.modified()  # or is it the folder that is gone?
            return None
        except OSError as ex:
            raise StorageUnavailable("The storage can't be used now.", 5) from ex

    def modified(self) -> int:
        """Return the time of the folder's last change, in nanoseconds."""
        with storage_errors():
            return os.stat(self._path).st_mtime_ns

    def settled(self, modified: int) -> bool:
        """Tell whether a change from now on would have another time than `modified`."""
        return time.time_ns() - modified > TICK_NS

    def watch(self) -> None:
        """Begin to collect what changes."""
        try:
            self._inotify = inotify_simple.INotify(nonblocking=True)
            self._inotify.add_watch(self._path, _CHANGES)
        except OSError as ex:
            log.warning('no inotify (%s): every change costs a scan of the folder', ex)
            self.unwatch()

    def unwatch(self) -> None:
        """Collect no more."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    @property
    def watched(self) -> bool:
        """Whether what changes is being collected."""
        return self._inotify is not None

    def changes(self) -> set[str] | None:
        """Return the names that came or went since the last call; None: unknown."""
        if self._inotify is None:
            return None
        events = self._inotify.read(timeout=0)
        if any(event.mask & _LOST for event in events):
            self.unwatch()
            self.watch()
            return None
        return {event.name for event in events}

    def names(self) -> set[str]:
        """Return the names of all files, without the folder of previews."""
        with storage_errors():
            return set(os.listdir(self._path)) - {previews.FOLDER}

    def read(self, image_id: str) -> Image | None:
        """Read an image's header; None where there is no such image.

        A damaged or unreadable file is none.
        """
        try:
            with open(self.path(image_id), 'rb', buffering=0) as file:
                status = os.fstat(file.fileno())
                size = jpeg.read_size(file)
        except ValueError:
            return None
        except OSError as ex:
            if ex.errno in _EXHAUSTED:  # then nothing is known about the file
                raise StorageUnavailable('Too many files are open.', 5) from ex
            return None
        return Image(image_id, size, status.st_size, status.st_mtime_ns)

    def read_all(self, names: Collection[str]) -> list[Image]:
        """Read many headers, in parallel, as a large folder on a cold disk needs."""
        wanted = sorted(name for name in names if UUID.fullmatch(name))
        chunks = [wanted[i : i + _CHUNK] for i in range(0, len(wanted), _CHUNK)]
        if len(chunks) < 2:
            return self._read_chunk(wanted)
        images: list[Image] = []
        with concurrent.futures.ThreadPoolExecutor(_THREADS, 'asgilook') as executor:
            for chunk in executor.map(self._read_chunk, chunks):
                images += chunk
                log.info('read %d of %d images', len(images), len(wanted))
        return images

    def _read_chunk(self, names: list[str]) -> list[Image]:
        return [image for image in map(self.read, names) if image is not None]
