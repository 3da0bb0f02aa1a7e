"""Container formats: recognizes the format of an upload and separates its metadata.

Metadata is removed before Pillow sees the file, as its parsers fail on damaged
metadata and take long on large ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..models import CheckDeadline
from . import gif, jpeg, png, tiff

_match_format = re.compile(
    rb'(?P<JPEG>\xff\xd8\xff)'
    rb'|(?P<PNG>\x89PNG\r\n\x1a\n)'
    rb'|(?P<GIF>GIF8[79]a)'
    rb'|(?P<WEBP>RIFF.{4}WEBP)'
    # "mif1" and "msf1" may be HEIC as well: the compatible brands decide.
    rb'|(?P<AVIF>.{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){,12}?avi[fs]))'
    # With a known header size, as many texts begin with "BM".
    rb'|(?P<BMP>BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3})'
    rb'|(?P<TIFF>II[*+]\0|MM\0[*+])',
    re.DOTALL,
).match
_match_heif = re.compile(rb'.{4}ftyp(?:hei[cmsx]|hev[cmsx]|m[is]f1)', re.DOTALL).match
# ISO/IEC 14496-12, 8.11.6: the entry of an item in versions 2 and 3.
_avif_exif = re.compile(rb'(infe(?:\x02.{7}|\x03.{9}))Exif', re.DOTALL)

# Flags of a VP8X chunk (RFC 9649, section 2.7).
_WEBP_ANIMATION, _WEBP_ALPHA = 0x02, 0x10


@dataclass(frozen=True)
class Picture:
    """An upload, separated into pixels and metadata.

    `data` is what the decoder gets. `is_rewritten` marks a JPEG made by `jpeg.rewrite`.
    """

    format: str
    data: bytes
    exif: bytes = b''
    icc: bytes = b''
    is_rewritten: bool = False


def parse(data: bytes, check_deadline: CheckDeadline) -> Picture | None:
    """Return the contents of a file; None if its format is not accepted.

    Raises ValueError or IndexError if the file is damaged.
    """
    match = _match_format(data[:64])
    name = match.lastgroup if match else None
    if name == 'JPEG':
        return _jpeg(data, check_deadline)
    if name == 'PNG':
        chunks = png.parse(data, check_deadline)
        return Picture(name, chunks.join(), chunks.exif, chunks.profile)
    if name == 'GIF':
        return Picture(name, gif.first_frame(data, check_deadline))
    if name == 'TIFF':
        return Picture(name, tiff.without_metadata(data))
    if name == 'WEBP':
        return Picture(name, _with_alpha(data))
    if name == 'AVIF':
        # Pillow rejects damaged EXIF; AVIF has a property of its own for orientation.
        return Picture(name, _avif_exif.sub(rb'\1skip', data))
    return Picture(name, data) if name else None


def describe_unsupported(data: bytes) -> str:
    """Return the message for a file that `parse` does not accept."""
    if _match_heif(data):
        return 'HEIC (HEIF) images are not supported; export the image as JPEG.'
    return 'The file is not a JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF image.'


def _with_alpha(data: bytes) -> bytes:
    """Return a WebP that has the alpha flag if it is an animation.

    Otherwise Pillow shows black where the first frame does not cover the canvas.
    """
    if data[12:16] != b'VP8X' or not data[20] & _WEBP_ANIMATION:
        return data
    return data[:20] + bytes([data[20] | _WEBP_ALPHA]) + data[21:]


def _jpeg(data: bytes, check_deadline: CheckDeadline) -> Picture:
    header = jpeg.parse(data, check_deadline)
    rewritten = jpeg.rewrite(data, header)
    clean = rewritten or jpeg.without_metadata(data, header)
    return Picture('JPEG', clean, header.exif, header.profile, bool(rewritten))
