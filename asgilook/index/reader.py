"""The image files of the storage folder, of which only the headers are read."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import errno
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from functools import partial

from ..imaging import jpeg
from ..models import UUID, Image
from ..storage import previews
from ..storage.atomic import open_without_blocking
from ..storage.local import EXHAUSTED, describe

log = logging.getLogger(__name__)

# Errors of a path that isn't that of a regular file.
_NO_FILE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO})

_THREADS = 4
_CHUNK_SIZE = 2000


@dataclasses.dataclass(frozen=True)
class Found:
    """Result of reading files, without known images that are unchanged.

    Attributes:
        images: images that are new, or differ from the known ones.
        unreadable: reasons why files can't be read, by name.
        others: files that are damaged, or were not stored by this service.
        absent: names without a file.
    """

    images: list[Image] = dataclasses.field(default_factory=list)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    others: set[str] = dataclasses.field(default_factory=set)
    absent: set[str] = dataclasses.field(default_factory=set)


class Reader:
    """Files of one folder; every method may raise OSError, as of too many open files.

    `known` has the images that are known already, and may change meanwhile.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def path(self, image_id: str) -> str:
        """Return the path of an image file."""
        return f'{self._folder}/{image_id}'

    def status(self, image_id: str) -> os.stat_result | None:
        """Return the status of an image file at this moment; None if there is none."""
        try:
            return os.stat(self.path(image_id))
        except FileNotFoundError:
            os.stat(self._folder)  # raises if the folder itself is missing
            return None

    def scan(self, known: Mapping[str, Image], names: set[str]) -> Found:
        """Read the whole folder; `names` are those of the previous scan."""
        present = set(os.listdir(self._folder)) - {previews.FOLDER}
        found = self.read(filter(UUID.fullmatch, present), known)
        others = {name for name in present if not UUID.fullmatch(name)}
        return dataclasses.replace(
            found,
            others=found.others | others,
            absent=found.absent | (names - present),
        )

    def read(self, names: Iterable[str], known: Mapping[str, Image]) -> Found:
        """Read files, in parallel if there are many, which is faster on a cold disk."""
        targets = sorted(names)
        steps = range(0, len(targets), _CHUNK_SIZE)
        chunks = [targets[i : i + _CHUNK_SIZE] for i in steps]
        if len(chunks) < 2:
            return self._read_chunk(targets, known)
        result = Found()
        with concurrent.futures.ThreadPoolExecutor(_THREADS, 'asgilook') as executor:
            for found in executor.map(partial(self._read_chunk, known=known), chunks):
                result.images.extend(found.images)
                result.unreadable.update(found.unreadable)
                result.others.update(found.others)
                result.absent.update(found.absent)
                if found.images:
                    log.info('read %d of %d images', len(result.images), len(targets))
        return result

    def _read_chunk(self, names: list[str], known: Mapping[str, Image]) -> Found:
        found = Found()
        for name in names:
            try:
                image = self._read(name, known.get(name))
            except FileNotFoundError:
                found.absent.add(name)
            except ValueError:
                found.others.add(name)
            except OSError as ex:
                if ex.errno in EXHAUSTED:  # then nothing is known about the file
                    raise
                if ex.errno in _NO_FILE:
                    found.others.add(name)
                else:
                    found.unreadable[name] = describe(ex)
            else:
                if image is not known.get(name):
                    found.images.append(image)
        return found

    def _read(self, name: str, known: Image | None) -> Image:
        """Return an image, the known one if it is unchanged; raises ValueError."""
        path = self.path(name)
        if known is not None and is_unchanged(known, path):
            return known
        with open(path, 'rb', buffering=0, opener=open_without_blocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError('not a regular file')
            size = jpeg.read_size(file)
        return Image(name, size, status.st_size, status.st_mtime_ns)


def is_unchanged(image: Image, path: str) -> bool:
    """Return whether the file of an image is still the same, and readable."""
    return image.matches(os.stat(path)) and os.access(path, os.R_OK)
