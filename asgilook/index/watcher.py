"""Changes of the storage folder.

inotify reports a change before the system call that makes it returns, in any process of
the machine. So a request that follows the response to a POST or DELETE sees the change,
and listing costs as much as there are changes, not files. Changes that inotify does not
report, as those of other machines on NFS, are detected by the folder's modification
time, and cost a scan. They are missed if this machine makes a change in the same
interval, so machines that share images need a database.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import NamedTuple

import inotify_simple
from inotify_simple import flags

from ..storage.local import EXHAUSTED

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
    | flags.ATTRIB
    | flags.ONLYDIR
)
_LOST = flags.Q_OVERFLOW | flags.IGNORED | flags.UNMOUNT

# Limits of inotify or of the process, or no inotify at all; other errors concern the
# folder.
_NO_INOTIFY = EXHAUSTED | {errno.ENOSPC, errno.ENOSYS}

# Reads of one call, where changes come in faster than they are read.
_MAX_READS = 8


class Version(NamedTuple):
    """State of a folder: another one after each change outside of one clock tick."""

    device: int
    inode: int
    modified_ns: int


class Changes(NamedTuple):
    """Names that have changed since the last call, unless some were `lost`."""

    version: Version
    names: set[str]
    lost: bool


class Watcher:
    """Collects the changes of one folder."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inotify: inotify_simple.INotify | None = None
        self._watched: tuple[int, ...] | None = None
        self._started = False

    def start(self) -> None:
        """Watch the folder from the next call of `changes` on."""
        self._started = True

    def stop(self) -> None:
        """Stop watching."""
        self._started = False
        self._unwatch()

    def is_settled(self, version: Version) -> bool:
        """Return whether the next change will be seen, by inotify or by its time."""
        age_ns = time.time_ns() - version.modified_ns
        return self._inotify is not None or age_ns > TICK_NS

    def changes(self) -> Changes:
        """Return the changes since the last call; without inotify, only the version.

        Raises OSError if the folder can't be watched or listed.
        """
        version = self._version()
        if self._started and self._watched != version[:2]:
            # The folder was moved away and replaced, or is watched for the first time.
            return self._watch(version)
        names: set[str] = set()
        for _ in range(_MAX_READS):
            # NOTE(order): version first, events second, until there are none. So the
            # changes up to that version are in `names`, and no later list needs a scan.
            events = self._inotify.read(timeout=0) if self._inotify else []
            if any(event.mask & _LOST for event in events):
                return self._watch(version)
            names.update(event.name for event in events)
            if not events:
                break
            version = self._version()
        return Changes(version, names, False)

    def _version(self) -> Version:
        status = os.stat(self._path)
        return Version(status.st_dev, status.st_ino, status.st_mtime_ns)

    def _watch(self, version: Version) -> Changes:
        self._unwatch()
        try:
            self._inotify = inotify_simple.INotify(nonblocking=True)
            self._inotify.add_watch(self._path, _CHANGES)
        except OSError as ex:
            self._unwatch()
            if ex.errno not in _NO_INOTIFY:
                raise
            log.warning('no inotify (%s): each change costs a scan of the folder', ex)
        # NOTE(order): the version is older than the watch, so that a folder replaced in
        # between is recognized by the next call.
        self._watched = version[:2]
        return Changes(self._version(), set(), True)

    def _unwatch(self) -> None:
        self._watched = None
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
