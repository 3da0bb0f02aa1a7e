"""Containers: which format an upload is, and what of it decoders get to see.

Metadata is read here, and taken out before Pillow's parsers can stumble over it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..models import CheckDeadline
from . import gif, jpeg, png, tiff

_format = re.compile(
    rb'(?P<JPEG>\xff\xd8\xff)'
    rb'|(?P<PNG>\x89PNG\r\n\x1a\n)'
    rb'|(?P<GIF>GIF8[79]a)'
    rb'|(?P<WEBP>RIFF.{4}WEBP)'
    # "mif1" and "msf1" may be HEIC as well: the other brands tell.
    rb'|(?P<AVIF>.{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){,12}?avi[fs]))'
    # With the size of a header that there is: many a text begins with "BM".
    rb'|(?P<BMP>BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3})'
    rb'|(?P<TIFF>II[*+]\0|MM\0[*+])',
    re.DOTALL,
).match
# ISO/IEC 14496-12, 8.11.6: the entry of an item in versions 2 and 3.
_avif_exif = re.compile(rb'(infe(?:\x02.{7}|\x03.{9}))Exif', re.DOTALL)


@dataclass
class Picture:
    """An upload taken apart.

    `data` is for the decoder; a `sound` JPEG is one that `jpeg.rewrite` has made.
    """

    format: str
    data: bytes
    exif: bytes = b''
    icc: bytes = b''
    sound: bool = False


def take_apart(data: bytes, check: CheckDeadline) -> Picture | None:
    """Return what a file holds, or None where its format is not accepted.

    Raises ValueError for damage.
    """
    found = _format(data[:64])
    name = found.lastgroup if found else None
    if name == 'JPEG':
        return _jpeg(data, check)
    if name == 'GIF':
        return Picture(name, gif.first_frame(data, check))
    if name == 'PNG':
        chunks = png.parse(data, check)
        return Picture(name, chunks.join(), chunks.exif, chunks.profile)
    if name == 'TIFF':
        return Picture(name, tiff.without_metadata(data))
    if name == 'AVIF':
        # Pillow gives up on damaged EXIF; orientation is a property of its own here.
        return Picture(name, _avif_exif.sub(rb'\1skip', data))
    return Picture(name, data) if name else None


def _jpeg(data: bytes, check: CheckDeadline) -> Picture:
    header = jpeg.parse(data, check)
    rewritten = jpeg.rewrite(data, header)
    clean = rewritten or jpeg.without_metadata(data, header)
    return Picture('JPEG', clean, header.exif, header.profile, bool(rewritten))
