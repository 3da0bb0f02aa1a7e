"""The file of an image's previews: whatever changes in it counts as missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from asgilook.models import Image
from asgilook.storage.previews import FolderPreviews, Previews

FIRST = '00000000-0000-4000-8000-000000000001'
SECOND = '00000000-0000-4000-8000-000000000002'
PARTS = [b'largest' * 99, b'smaller' * 9, b'']
IMAGE = Image(FIRST, (1600, 1200), 1000, 2000)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Previews, FolderPreviews]:
    """Return previews of one image, and their file."""
    files = FolderPreviews(str(tmp_path))
    previews = Previews(files, renderer='85')
    previews.write(IMAGE, PARTS)
    return previews, files


def read_all(previews: Previews, count: int = len(PARTS)) -> list[bytes | None]:
    return [previews.read(IMAGE, number, count) for number in range(count)]


def is_found(previews: Previews) -> bool:
    """Return whether damage is found, and whatever is read is right."""
    found = read_all(previews)
    pairs = zip(found, PARTS, strict=True)
    assert all(preview in (None, part) for preview, part in pairs)
    return None in found


def test_each_preview_is_read(stored: tuple[Previews, FolderPreviews]) -> None:
    previews, files = stored
    assert read_all(previews) == PARTS
    assert files.read(FIRST).startswith(PARTS[0])


def test_every_changed_byte_is_found(stored: tuple[Previews, FolderPreviews]) -> None:
    previews, files = stored
    content = files.read(FIRST)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        files.write(FIRST, bytes(changed))
        assert is_found(previews)


def test_every_truncation_is_found(stored: tuple[Previews, FolderPreviews]) -> None:
    previews, files = stored
    content = files.read(FIRST)
    for length in range(len(content)):
        files.write(FIRST, content[:length])
        assert is_found(previews)
    files.write(FIRST, content[: len(content) // 2])
    assert read_all(previews) == [None] * len(PARTS)


@pytest.mark.parametrize('count', [1, 2, 4, 5, 400])
def test_other_number_of_previews(
    stored: tuple[Previews, FolderPreviews], count: int
) -> None:
    previews, _ = stored
    assert read_all(previews, count) == [None] * count


def test_preview_in_place_of_another(stored: tuple[Previews, FolderPreviews]) -> None:
    previews, files = stored
    content = files.read(FIRST)
    lengths = content[-4 * len(PARTS) :]
    start, seal = len(PARTS[0]) + 16, 16
    first, second = content[:start], content[start : start + len(PARTS[1]) + seal]
    rest = content[start + len(second) : -len(lengths)]
    swapped = lengths[4:8] + lengths[:4] + lengths[8:]
    files.write(FIRST, second + first + rest + swapped)
    assert read_all(previews) == [None, None, PARTS[2]]


@pytest.mark.parametrize(
    'changes',
    [
        {'image_id': SECOND},
        {'modified_ns': 1},
        {'length': 1},
    ],
)
def test_preview_of_another_image_counts_as_missing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    files = FolderPreviews(str(tmp_path))
    previews = Previews(files, renderer='85')
    image = Image(FIRST, (1600, 1200), 1000, 2000)
    previews.write(image, [b'content'])
    other = dataclasses.replace(image, **changes)
    files.write(other.image_id, files.read(FIRST))
    assert previews.read(image, 0, 1) == b'content'
    assert previews.read(other, 0, 1) is None
    assert Previews(files, renderer='86').read(image, 0, 1) is None
