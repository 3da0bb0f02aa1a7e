from __future__ import annotations

import asyncio
import io
import os
import signal
from contextlib import closing

import pytest

from asgilook.cli.bulk import MAX_LINES, MIN_STEP, Bulk, Progress
from asgilook.errors import AsgilookError, StorageFull, StorageUnavailable

from ..conftest import until

Captured = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def follow(file: io.StringIO, total: int) -> list[str]:
    """Return the progress of `total` files, with another line after half of them."""
    progress = Progress(total, file)
    for number in range(total):
        if number == total // 2:
            progress.write('half of it')
        progress.advance()
    progress.close()
    return file.getvalue().replace('\r', '\n').splitlines()


def test_progress_lines_without_terminal() -> None:
    total = 2 * MIN_STEP + 1
    lines = follow(io.StringIO(), total)
    assert lines == [
        f'{MIN_STEP} of {total} files',
        'half of it',
        f'{2 * MIN_STEP} of {total} files',
    ]


def test_progress_lines_are_few() -> None:
    lines = follow(io.StringIO(), 10 * MIN_STEP * MAX_LINES)
    assert len(lines) == MAX_LINES + 1


def test_progress_without_files() -> None:
    assert follow(io.StringIO(), 0) == []


def test_progress_bar_on_terminal() -> None:
    lines = follow(Terminal(), 20)
    assert 'half of it' in lines
    assert '20/20' in lines[-1]
    assert '100%' in lines[-1]
    assert not [line for line in lines if ' of 20 files' in line]


def make(concurrency: int = 2) -> tuple[Bulk, io.StringIO]:
    """Return a `Bulk`, and its output."""
    output = io.StringIO()
    with closing(Progress(None, output)) as progress:
        return Bulk(concurrency, progress), output


async def run(
    bulk: Bulk, items: list[int], failure: AsgilookError | None = None
) -> list[int]:
    """Process numbers, with a failure at number 3; return the numbers that were
    started."""
    started = []

    async def process(item: int) -> None:
        started.append(item)
        await asyncio.sleep(0)
        if item == 3 and failure:
            raise failure

    await bulk.process_all(iter(items), process)
    return started


async def test_all_are_processed(capsys: Captured) -> None:
    bulk, output = make()
    assert await run(bulk, list(range(10))) == list(range(10))
    assert bulk.report('done 10') == 0
    assert capsys.readouterr().out == 'done 10, rejected 0\n'
    assert output.getvalue() == ''


@pytest.mark.parametrize('concurrency', [1, 3])
async def test_concurrency(concurrency: int) -> None:
    bulk, _ = make(concurrency)
    busy: set[int] = set()
    counts: list[int] = []

    async def process(item: int) -> None:
        busy.add(item)
        counts.append(len(busy))
        await asyncio.sleep(0)
        busy.remove(item)

    await bulk.process_all(iter(range(10)), process)
    assert max(counts) == concurrency


@pytest.mark.parametrize(
    ('failure', 'line'),
    [
        (StorageFull('Full.'), 'asgilook: Full.\n'),
        (StorageUnavailable('Not now.'), 'asgilook: Not now. (a wire)\n'),
    ],
)
async def test_failure_ends_the_run(
    failure: AsgilookError, line: str, capsys: Captured
) -> None:
    if isinstance(failure, StorageUnavailable):
        failure.__cause__ = OSError('a wire')
    bulk, _ = make(1)
    assert await run(bulk, list(range(10)), failure) == [0, 1, 2, 3]
    assert bulk.failure is failure
    assert bulk.report('done 3') == 1
    assert capsys.readouterr().err == line


async def test_signal_ends_the_run(capsys: Captured) -> None:
    bulk, output = make()
    started = []

    async def process(item: int) -> None:
        started.append(item)
        if len(started) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: bulk.ended)
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)

    bulk.handle_signals()
    await bulk.process_all(iter(range(10**9)), process)
    assert bulk.signal == signal.SIGTERM
    assert output.getvalue() == 'stopping after the files in progress\n'
    assert bulk.report('done some') == 128 + signal.SIGTERM
    assert capsys.readouterr().err == 'asgilook: interrupted; run it again to resume\n'


def test_rejections_are_printed(capsys: Captured) -> None:
    bulk, output = make()
    bulk.reject('a name', 'a reason')
    bulk.reject('a\nname', 'a reason')
    assert output.getvalue() == "a name: a reason\n'a\\nname': a reason\n"
    assert bulk.report('done 0') == 1
    assert capsys.readouterr().out == 'done 0, rejected 2\n'
