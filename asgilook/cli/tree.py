"""A folder of files that are anyone's, as an import reads it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from ..errors import InvalidRequest
from ..web.uploads import too_large


def walk(
    folder: str, unreadable: Callable[[OSError], None] | None = None
) -> Iterator[str]:
    """Yield the path of every file below a folder, the same order every time.

    What is hidden is left out, and links to folders are not followed. `unreadable` is
    called for each folder that can't be listed.
    """
    for path, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = _visible(folders)
        for name in _visible(names):
            yield os.path.join(path, name)


def _visible(names: list[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith('.'))


def read(path: str, limit: int) -> bytes:
    """Return a whole file, of `limit` bytes at most; it may be of any kind.

    Raises OSError, `UploadTooLarge`, and `InvalidRequest` for a file that is empty,
    no regular one, or being written.
    """
    # A pipe without a writer would hold up a plain open.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, 'rb') as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequest('It is not a regular file.')
        if status.st_size > limit:
            raise too_large(limit)
        data = file.read(status.st_size + 1)
    if len(data) != status.st_size:
        raise InvalidRequest('The file changed while it was read.')
    if not data:
        raise InvalidRequest('The file is empty: it must be an image.')
    return data
