"""Pillow's own operations on a picture of 12 megapixels: when is the GIL free?

Run it as `python -m benchmarks.pillow [PYTHON ...]`. For each operation it prints the
processor time, the share of it during which no other Python thread can run, and the
gain from a second thread (2: all, 1: nothing). Further interpreters, with another
Pillow (and numpy), are measured in turn, and simplejpeg if it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial

import PIL
from PIL import Image, features

from .pictures import QUALITY, photo
from .turns import Job, processor_time, rate

ROUNDS = 5
REPEATS = 3
SECONDS = 0.4
# Seconds, past which a thread that wakes up has waited for the GIL.
TURN = 0.002
COLUMNS = ('ms', 'held', 'gain')

# By operation, by column.
Figures = dict[str, dict[str, float]]


def load(data: bytes, scale: int = 1) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    if scale > 1:
        image.draft('RGB', (image.width // scale, image.height // scale))
    image.load()
    return image


def to_memory(image: Image.Image) -> None:
    image.save(io.BytesIO(), 'JPEG', quality=QUALITY)


def to_descriptor(image: Image.Image) -> None:
    with os.fdopen(os.memfd_create('benchmark'), 'w+b') as file:
        image.save(file, 'JPEG', quality=QUALITY)


def thumbnail(data: bytes, scale: int) -> None:
    to_descriptor(load(data, scale))


def upload(data: bytes) -> None:
    to_descriptor(load(data))


def operations(data: bytes) -> dict[str, Job]:
    image = load(data)
    half = (image.width // 2, image.height // 2)
    return {
        'decode': partial(load, data),
        'decode at 1/2': partial(load, data, 2),
        'decode at 1/8': partial(load, data, 8),
        'resize to 1/2, bicubic': partial(image.resize, half, Image.Resampling.BICUBIC),
        'resize to 1/2, Lanczos': partial(image.resize, half, Image.Resampling.LANCZOS),
        'reduce(2)': partial(image.reduce, 2),
        'turn by 90 degrees': partial(image.transpose, Image.Transpose.ROTATE_270),
        "convert('RGB') of RGB": partial(image.convert, 'RGB'),
        "convert('L')": partial(image.convert, 'L'),
        'encode into BytesIO': partial(to_memory, image),
        'encode into a descriptor': partial(to_descriptor, image),
        'thumbnail at 1/2': partial(thumbnail, data, 2),
        'thumbnail at 1/8': partial(thumbnail, data, 8),
        'decode and encode': partial(upload, data),
        **simple_operations(data),
    }


def simple_operations(data: bytes) -> dict[str, Job]:
    """Do the two hot operations with simplejpeg: a thumbnail, and a whole picture."""
    with contextlib.suppress(ImportError):
        import simplejpeg

        def recode(scale: int) -> None:
            size = {'min_width': 4000 // scale, 'min_height': 3000 // scale}
            pixels = simplejpeg.decode_jpeg(data, min_factor=1, **size)
            simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorsubsampling='420')

        return {
            'simplejpeg: thumbnail at 1/2': partial(recode, 2),
            'simplejpeg: thumbnail at 1/8': partial(recode, 8),
            'simplejpeg: decode and encode': partial(recode, 1),
        }
    return {}


def held(job: Job) -> float:
    """Return the share of the job during which another thread could not run."""
    waited, done = 0.0, threading.Event()

    def tick() -> None:
        nonlocal waited
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0002)
            now = time.perf_counter()
            if now - last > TURN:
                waited += now - last
            last = now

    ticking = threading.Thread(target=tick)
    ticking.start()
    time.sleep(0.01)
    start = time.perf_counter()
    job()
    took = time.perf_counter() - start
    done.set()
    ticking.join()
    return min(1, waited / took)


def work(path: str) -> None:
    """Print the figures of one round as JSON: by operation, by column."""
    with open(path, 'rb') as file:
        jobs = operations(file.read())
    figures = {
        name: {
            'ms': processor_time(job, REPEATS),
            'held': min(held(job) for _ in range(REPEATS)),
            'gain': rate(job, 2, SECONDS) / rate(job, 1, SECONDS),
        }
        for name, job in jobs.items()
    }
    codec = f'{PIL.__version__}, libjpeg-turbo {features.version("libjpeg_turbo")}'
    json.dump({'title': f'Pillow {codec}', 'figures': figures}, sys.stdout)


class Interpreter:
    """The figures of one interpreter, round by round, and what Pillow it has."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.title = ''
        self.rounds: list[Figures] = []

    def run(self, picture: str) -> None:
        command = [self._path, '-m', 'benchmarks.pillow', '--work', picture]
        printed = subprocess.run(command, check=True, capture_output=True).stdout
        answer = json.loads(printed)
        self.title = answer['title']
        self.rounds.append(answer['figures'])

    def report(self, first: Interpreter) -> None:
        print(f'\n{self.title}')
        print(f'{"":32}{"ms":>8}{"GIL held":>11}{"gain":>7}{"to the first":>14}')
        for name in self.rounds[0]:
            ms, kept, gain = (self.median(name, column) for column in COLUMNS)
            print(
                f'{name:32}{ms:8.1f}{kept:11.0%}{gain:7.2f}'
                + (f'{self.faster(name, first):14.2f}' if self is not first else '')
            )

    def median(self, name: str, column: str) -> float:
        return statistics.median(figures[name][column] for figures in self.rounds)

    def faster(self, name: str, other: Interpreter) -> float:
        """Return the ratio of the other interpreter's processor time to this one's."""
        return statistics.median(
            theirs[name]['ms'] / ours[name]['ms']
            for ours, theirs in zip(self.rounds, other.rounds, strict=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('interpreters', nargs='*', metavar='PYTHON')
    parser.add_argument('--work', metavar='JPEG', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    interpreters = [Interpreter(path) for path in [sys.executable, *args.interpreters]]
    with tempfile.NamedTemporaryFile() as file:
        file.write(photo(4000, 3000))
        file.flush()
        for _ in range(ROUNDS):
            for interpreter in interpreters:
                interpreter.run(file.name)
    for interpreter in interpreters:
        interpreter.report(interpreters[0])


if __name__ == '__main__':
    main()
