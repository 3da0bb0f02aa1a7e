"""Canonical URLs, and the converters of their parts."""

from __future__ import annotations

import re

from falcon.routing import BaseConverter

from ..models import UUID
from .asgi_types import Scope

_SIZE = re.compile('([1-9][0-9]{0,4})x([1-9][0-9]{0,4})')


class CanonicalUUID(BaseConverter):
    """Falcon converter of UUIDs in lower case with hyphens; no other form matches."""

    def convert(self, value: str) -> str | None:
        """Return the value itself, or None if it is not canonical."""
        return value if UUID.fullmatch(value) else None


class PixelSize(BaseConverter):
    """Falcon converter of `320x180` to (320, 180); no sign, space or leading zero."""

    def convert(self, value: str) -> tuple[int, int] | None:
        """Return width and height in pixels, or None if it is not canonical."""
        match = _SIZE.fullmatch(value)
        return (int(match[1]), int(match[2])) if match else None


def is_canonical(scope: Scope) -> bool:
    """Return whether a path has exactly one leading slash, and no %-escape."""
    raw: bytes = scope.get('raw_path', b'')
    return not (raw.startswith(b'//') or b'%' in raw)
