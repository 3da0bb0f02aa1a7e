"""TIFF directories (TIFF 6.0, section 2): removes the tags that decoding ignores."""

from __future__ import annotations

import struct

from PIL.TiffImagePlugin import TiffImageFile

WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH = 256, 257, 322, 323
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 284, 339
JPEG_TABLES, ICC_PROFILE = 347, 34675

# Values of PHOTOMETRIC, PLANAR_CONFIGURATION and SAMPLE_FORMAT.
WHITE_IS_ZERO, SEPARATE, UNSIGNED = 0, 2, 1

_NEEDED_TAGS = frozenset(
    # size, samples, compression, colors, fill order, orientation, strips, planes
    {WIDTH, LENGTH, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284}
    # fax options, predictor, color map, tiles, inks, extra samples, sample format
    | {292, 293, 317, 320, TILE_WIDTH, TILE_LENGTH, 324, 325, 332, 338, 339}
    # JPEG, old and new, YCbCr
    | {JPEG_TABLES, *range(512, 522), 529, 530, 531, 532, ICC_PROFILE}
)
# BYTE and UNDEFINED: Pillow keeps these as bytes, without an object for each value.
_BYTE_TYPES = (1, 7)
_MAX_VALUES = 1 << 18
_MAX_PADDING = 1 << 24


def without_metadata(data: bytes) -> bytes:
    """Return the file with only the needed tags of its first directory.

    Tags with very many values are dropped too, as Pillow makes an object of each
    value. A file without a readable directory is returned unchanged.
    """
    order = '<' if data[:1] == b'I' else '>'
    is_big = data[2:4] in (b'+\0', b'\0+')
    try:
        (start,) = struct.unpack_from(
            order + ('Q' if is_big else 'I'), data, 8 if is_big else 4
        )
        (count,) = struct.unpack_from(order + ('Q' if is_big else 'H'), data, start)
    except (struct.error, OverflowError):
        return data
    first, size = (start + 8, 20) if is_big else (start + 2, 12)
    last = first + min(count, 0xFFFF) * size
    entries = [data[at : at + size] for at in range(first, last, size)]
    kept = [entry for entry in entries if _is_needed(entry, order, size)]
    head = struct.pack(order + ('Q' if is_big else 'H'), len(kept))
    directory = b''.join([head, *kept, bytes(8 if is_big else 4)])
    return data[:start] + directory + data[start + len(directory) :]


def _is_needed(entry: bytes, order: str, size: int) -> bool:
    if len(entry) < size:
        return False
    tag, type_, count = struct.unpack_from(
        order + ('HHQ' if size == 20 else 'HHI'), entry
    )
    is_blob = type_ in _BYTE_TYPES and tag in (JPEG_TABLES, ICC_PROFILE)
    return tag in _NEEDED_TAGS and (is_blob or count <= _MAX_VALUES)


def has_oversized_tiles(image: TiffImageFile) -> bool:
    """Return whether libtiff would decode far more pixels than the image has."""
    tags = image.tag_v2
    if TILE_WIDTH not in tags and TILE_LENGTH not in tags:
        return False
    pixels = padded = 1
    for side, tile in ((WIDTH, TILE_WIDTH), (LENGTH, TILE_LENGTH)):
        step = tags.get(tile)
        if not isinstance(step, int) or step < 1:
            return True
        pixels *= tags[side]
        padded *= -(-tags[side] // step) * step
    return padded > 2 * pixels + _MAX_PADDING
