"""Pictures per second: the tutorial's code, this project's and libvips, in one run.

Run it as `python -m benchmarks.transform [JPEG ...]`. They take turns on the named
files, or on made pictures of 12 and 2 megapixels, with one thread and with two, each in
a process of its own; a ratio is the median of the rounds. Milliseconds of processor
time vary less with the load of the machine.

All get the same file and work without previews, HTTP and storage. So it does not show
what each service stores, and what that saves or costs later: see `benchmarks.service`.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial

# Set before libvips starts: its operations get one thread, like the others.
os.environ['VIPS_CONCURRENCY'] = '1'

import pyvips
from PIL import Image

from asgilook.imaging import transform

from . import tutorial
from .pictures import photo, turned
from .turns import Job, measure, processor_time, ratio

Size = tuple[int, int]

THREADS = (1, 2)
SCALES = (2, 4, 8, 16)
QUALITY = 85
MAX_PIXELS = 50_000_000
ROUNDS = 7
SECONDS = 1
# Minimum ratios to the tutorial, for 12 megapixels on two threads.
TARGETS = {'1/2': 4.0, '1/4': 2.0, '1/8': 1.5}


def nothing() -> None:
    """Stand in for a deadline check."""


def memory() -> io.BufferedRandom:
    """Open what the store encodes into."""
    return os.fdopen(os.memfd_create('benchmark'), 'w+b')


def ours_thumbnail(path: str, size: Size) -> bytes:
    """Do what the store does in its thread, with its opening and reading."""
    with open(path, 'rb') as source:
        data = source.read()
    return transform.thumbnail(data, size, quality=QUALITY, check_deadline=nothing)


def ours_upload(data: bytes) -> None:
    with memory() as target:
        transform.to_jpeg(
            io.BytesIO(data),
            target,
            max_pixels=MAX_PIXELS,
            quality=QUALITY,
            min_thumb_size=64,
            check_deadline=nothing,
        )


def vips_thumbnail(data: bytes, size: Size) -> bytes:
    image = pyvips.Image.thumbnail_buffer(data, size[0], height=size[1], size='force')
    return bytes(image.jpegsave_buffer(Q=QUALITY, keep='none'))


def vips_upload(data: bytes) -> bytes:
    image = pyvips.Image.new_from_buffer(data, '', fail_on='truncated', autorotate=True)
    return bytes(image.jpegsave_buffer(Q=QUALITY, keep='none'))


def tutorial_upload(data: bytes) -> bytes:
    return tutorial.convert(tutorial.load(data))


def groups(data: bytes, path: str, size: Size) -> Iterator[tuple[str, dict[str, Job]]]:
    """Yield the name of each operation, and three implementations of it."""
    for scale in SCALES:
        small = (size[0] // scale, size[1] // scale)
        yield (
            f'1/{scale}',
            {
                'tutorial': partial(tutorial.thumbnail, data, small),
                'ours': partial(ours_thumbnail, path, small),
                'libvips': partial(vips_thumbnail, data, small),
            },
        )
    for name, upload in {'unchanged': data, 'turned': turned(data)}.items():
        yield (
            f'upload, {name}',
            {
                'tutorial': partial(tutorial_upload, upload),
                'ours': partial(ours_upload, upload),
                'libvips': partial(vips_upload, upload),
            },
        )


def forget() -> None:
    """Keep libvips from reusing cached results."""
    pyvips.cache_set_max(0)


# What to set once in the process of each contender.
SETUP: dict[str, Callable[[], None]] = {
    'tutorial': nothing,
    'ours': partial(transform.configure, MAX_PIXELS),
    'libvips': forget,
}


def report(name: str, data: bytes, processes: dict[str, Executor]) -> None:
    size = Image.open(io.BytesIO(data)).size
    print(f'\n{name}: {size[0]} x {size[1]}, {len(data) / 1e6:.1f} MB')
    print(
        f'{"":18}{"threads":>7}{"tutorial":>10}{"ours":>8}{"libvips":>9}'
        f'{"ours/tutorial":>16}{"ours/libvips":>15}'
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        for operation, jobs in groups(data, file.name, size):
            for threads in THREADS:
                row(operation, jobs, threads, size, processes)
            processor_row(operation, jobs, processes)


def processor_row(
    operation: str, jobs: dict[str, Job], processes: dict[str, Executor]
) -> None:
    theirs, ours, vips = (
        statistics.median(
            processes[way].submit(processor_time, job).result() for _ in range(ROUNDS)
        )
        for way, job in jobs.items()
    )
    print(
        f'{operation:18}{"ms":>7}{theirs:10.0f}{ours:8.0f}{vips:9.0f}'
        f'{theirs / ours:10.2f}{vips / ours:15.2f}',
        flush=True,
    )


def row(
    operation: str,
    jobs: dict[str, Job],
    threads: int,
    size: Size,
    processes: dict[str, Executor],
) -> None:
    rates = measure(jobs, threads, rounds=ROUNDS, seconds=SECONDS, processes=processes)
    per_second = [statistics.median(rates[name]) for name in jobs]
    asked = threads == 2 and size == (4000, 3000)
    target = f'({TARGETS[operation]})' if asked and operation in TARGETS else ''
    least = '(1.0)' if asked and operation.startswith('1/') else ''
    print(
        f'{operation:18}{threads:7}'
        f'{per_second[0]:10.1f}{per_second[1]:8.1f}{per_second[2]:9.1f}'
        f'{ratio(rates, "ours", "tutorial"):10.2f} {target:5}'
        f'{ratio(rates, "ours", "libvips"):9.2f} {least:5}',
        flush=True,
    )


def main() -> None:
    print('operations per second; targets in brackets')
    pictures: dict[str, bytes] = {}
    for path in sys.argv[1:]:
        with open(path, 'rb') as file:
            pictures[os.path.basename(path)] = file.read()
    if not pictures:
        pictures['12 megapixels'] = photo(4000, 3000)
        pictures['2 megapixels'] = photo(1632, 1224)
    context = multiprocessing.get_context('spawn')
    with contextlib.ExitStack() as stack:
        processes: dict[str, Executor] = {
            way: stack.enter_context(ProcessPoolExecutor(1, context, setup))
            for way, setup in SETUP.items()
        }
        for name, data in pictures.items():
            report(name, data, processes)


if __name__ == '__main__':
    main()
