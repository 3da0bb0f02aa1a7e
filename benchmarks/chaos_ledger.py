"""What a service has acknowledged in `benchmarks.chaos`, and what it did wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
import threading
import time
from collections import Counter
from typing import Any

from PIL import Image


@dataclasses.dataclass(eq=False)
class Picture:
    """A picture, its uploads, and what was answered.

    Attributes:
        pixels: digest of its pixels, by which it is recognized.
        key: Idempotency-Key of all of its uploads; empty if it has none.
        attempts: number of uploads.
        images: ids and JSON of acknowledged uploads.
        doomed: whether a deletion has been requested.
        deleted: whether a deletion has been acknowledged.
        digests: of the image and its thumbnails as they were first read, by URI.
    """

    body: bytes
    pixels: str
    key: str
    attempts: int = 0
    images: dict[str, Any] = dataclasses.field(default_factory=dict)
    doomed: bool = False
    deleted: bool = False
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def image(self) -> Any:
        """JSON of the acknowledged image."""
        (image,) = self.images.values()
        return image


class Ledger:
    """What the service has acknowledged, and what it did wrong."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.pictures: list[Picture] = []
        self.answers: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []
        self.slowest = 0.0, ''
        # Time at which a worker was killed last: only that may lose a connection.
        self.killed_at = 0.0

    def add(self, picture: Picture) -> None:
        with self._lock:
            self.pictures.append(picture)

    def count(self, action: str, answer: str, seconds: float) -> None:
        with self._lock:
            self.answers[action, answer] += 1
            at = time.strftime('%H:%M:%S')
            self.slowest = max(self.slowest, (seconds, f'{action} {answer} at {at}'))

    def violated(self, message: str) -> None:
        with self._lock:
            self.violations.append(f'{time.strftime("%H:%M:%S")} {message}')

    def check_bytes(self, picture: Picture, uri: str, body: bytes) -> None:
        """Check that something has the bytes that were read first."""
        digest = hashlib.sha256(body).hexdigest()
        if picture.digests.setdefault(uri, digest) != digest:
            self.violated(f'other bytes than at first: {uri}')
        elif uri.startswith('/images/') and pixels(body) != picture.pixels:
            self.violated(f'other pixels than uploaded: {uri}')

    def stored(self) -> list[Picture]:
        """Return the pictures with acknowledged uploads."""
        with self._lock:
            return [picture for picture in self.pictures if picture.images]


def pixels(body: bytes) -> str:
    with Image.open(io.BytesIO(body)) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()


def make_picture(rng: random.Random, *, large: float, keyed: bool) -> Picture:
    """Make a picture unlike any other; a few are large enough for a preview."""
    size = (1600, 1000) if rng.random() < large else (64, 48)
    small = Image.frombytes('RGB', (8, 6), rng.randbytes(8 * 6 * 3))
    file = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
    body = file.getvalue()
    return Picture(body, pixels(body), f'{rng.getrandbits(64):x}' if keyed else '')
