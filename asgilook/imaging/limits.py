"""Limits on uploads: time, pixels, scans and tiles."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import AsgilookError, ImageDamaged, UploadTooLarge
from ..models import CheckDeadline
from . import jpeg, tiff
from .formats import Picture

MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
MAX_SCANS = 100


class CheckedFile(io.BytesIO):
    """Bytes in memory that check the deadline at every read.

    Without a file descriptor, libtiff too has to read through this object.
    """

    def __init__(self, data: bytes, check_deadline: CheckDeadline) -> None:
        super().__init__(data)
        self._check_deadline = check_deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; raise what `check_deadline` raises."""
        self._check_deadline()
        return super().read(size)


class _Recorder:
    """A deadline check that keeps the exception that it raised."""

    def __init__(self, check_deadline: CheckDeadline) -> None:
        self._check_deadline = check_deadline
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._check_deadline()
        except BaseException as ex:
            self.error = ex
            raise


@contextmanager
def decoding(check_deadline: CheckDeadline) -> Iterator[CheckDeadline]:
    """Translate the exceptions of decoders into those of `errors`.

    Yields a deadline check for the decoders. Its exceptions are raised unchanged,
    although Pillow treats some of them as damage.
    """
    recorder = _Recorder(check_deadline)
    try:
        yield recorder
    except Exception as ex:
        if recorder.error is not None:
            raise recorder.error from None
        if isinstance(ex, Image.DecompressionBombError):
            raise UploadTooLarge('The image has too many pixels.') from ex
        if isinstance(ex, (AsgilookError, MemoryError)):
            raise
        raise ImageDamaged("The image is damaged: it can't be decoded.") from ex


def enforce(picture: Picture, image: Image.Image, max_pixels: int) -> None:
    """Raise `UploadTooLarge` or `ImageDamaged` if the image must not be decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise UploadTooLarge(
            f'The image has {width} x {height} pixels; the limit is {max_pixels}.'
        )
    if max(width, height) > MAX_SIDE:
        raise ImageDamaged(f'The image has a side of more than {MAX_SIDE} pixels.')
    may_have_scans = picture.format == 'JPEG' and not picture.is_rewritten
    if may_have_scans and jpeg.count_scans(picture.data) > MAX_SCANS:
        raise ImageDamaged(f'The image has more than {MAX_SCANS} scans.')
    if isinstance(image, TiffImageFile) and tiff.has_oversized_tiles(image):
        raise ImageDamaged('The tiles of the image are much larger than the image.')
