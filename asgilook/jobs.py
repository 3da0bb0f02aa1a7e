"""The jobs of the pool: what is done with pixels, from storage to storage."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from .concurrency import Check
from .config import Config
from .errors import ImageDamaged, StoredImageDamaged
from .imaging import transform
from .models import Image
from .observer import Observer
from .storage import atomic
from .storage.base import Storage

Size = tuple[int, int]


class Jobs:
    """Makes jobs, which are measured; each is run in a thread, and may block."""

    def __init__(self, config: Config, storage: Storage, observer: Observer) -> None:
        self._config = config
        self._storage = storage
        self._observer = observer

    def upload(self, source: BinaryIO, target: BinaryIO) -> Callable[[Check], Size]:
        """Write a picture as a JPEG to `target`; the job returns its size.

        The job raises what `transform.to_jpeg` does.
        """
        return self._observer.timed('upload', partial(self._convert, source, target))

    def thumbnail(self, image: Image, size: Size) -> Callable[[Check], bytes]:
        """Render a thumbnail of a stored image; the job returns it as a JPEG.

        The job raises `ImageNotFound`, `StoredImageDamaged`, `StorageUnavailable` or
        MemoryError.
        """
        return self._observer.timed('thumbnail', partial(self._reduce, image, size))

    def _convert(self, source: BinaryIO, target: BinaryIO, check: Check) -> Size:
        source.seek(0)
        return transform.to_jpeg(
            source,
            target,
            max_pixels=self._config.max_pixels,
            quality=self._config.jpeg_quality,
            check=check,
            accepted=self._observer.accepted,
        )

    def _reduce(self, image: Image, size: Size, check: Check) -> bytes:
        # Pillow lets go of the GIL only while it writes to a real file descriptor.
        with (
            os.fdopen(os.memfd_create('thumbnail'), 'w+b') as target,
            self._storage.open(image.image_id) as source,
        ):
            try:
                transform.thumbnail(
                    source, target, size, quality=self._config.jpeg_quality, check=check
                )
            except ImageDamaged as ex:
                raise StoredImageDamaged('The stored image is damaged.') from ex
            except OSError as ex:
                if ex.errno not in atomic.FULL:
                    raise
                raise MemoryError from ex
            target.seek(0)
            return target.read()
