"""Guards: what keeps a hostile file from costing more than a sound one."""

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
    """Bytes in memory that ask at every read whether there is time left.

    As they are no file of the system, libtiff too must get them from Python.
    """

    def __init__(self, data: bytes, check: CheckDeadline) -> None:
        super().__init__(data)
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, unless the time is up."""
        self._check()
        return super().read(size)


@contextmanager
def decoding(check: CheckDeadline) -> Iterator[CheckDeadline]:
    """Give everything that decoders raise its right name.

    Yields a check whose exception comes out as it was: Pillow takes some for damage.
    """
    raised: list[BaseException] = []

    def checked() -> None:
        try:
            check()
        except BaseException as ex:
            raised.append(ex)
            raise

    try:
        yield checked
    except Exception as ex:
        if raised:
            raise raised[0] from None
        if isinstance(ex, Image.DecompressionBombError):
            raise UploadTooLarge('The image has too many pixels.') from ex
        if isinstance(ex, (AsgilookError, MemoryError)):
            raise
        raise ImageDamaged("The image is damaged: it can't be decoded.") from ex


def refuse(picture: Picture, image: Image.Image, max_pixels: int) -> None:
    """Raise for what must not be decoded: `UploadTooLarge` or `ImageDamaged`."""
    width, height = image.size
    if width * height > max_pixels:
        raise UploadTooLarge(
            f'The image has {width} x {height} pixels, more than {max_pixels} in all.'
        )
    if max(width, height) > MAX_SIDE:
        raise ImageDamaged(f'The image has a side of more than {MAX_SIDE} pixels.')
    has_scans = picture.format == 'JPEG' and not picture.sound  # which has just one
    if has_scans and jpeg.count_scans(picture.data) > MAX_SCANS:
        raise ImageDamaged(f'The image has more than {MAX_SCANS} scans.')
    if isinstance(image, TiffImageFile) and tiff.has_absurd_tiles(image):
        raise ImageDamaged('The tiles of the image are much larger than the image.')
