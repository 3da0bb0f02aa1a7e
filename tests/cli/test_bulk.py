from __future__ import annotations

import asyncio
import io
import os
import signal
from contextlib import closing

import pytest

from asgilook.cli.bulk import Bulk
from asgilook.cli.progress import Progress
from asgilook.errors import AsgilookError, StorageFull, StorageUnavailable

from ..conftest import until

Captured = pytest.CaptureFixture[str]


def make(at_a_time: int = 2) -> tuple[Bulk, io.StringIO]:
    """Return one, and what it says."""
    said = io.StringIO()
    with closing(Progress(None, said)) as progress:
        return Bulk(at_a_time, progress), said


def run(
    bulk: Bulk, things: list[int], failure: AsgilookError | None = None
) -> list[int]:
    """Let it take numbers; at number 3 it fails. Return those that it began."""
    begun = []

    async def take(thing: int) -> None:
        begun.append(thing)
        await asyncio.sleep(0)
        if thing == 3 and failure:
            raise failure

    asyncio.run(bulk.each(iter(things), take))
    return begun


def test_all_are_taken(capsys: Captured) -> None:
    bulk, said = make()
    assert run(bulk, list(range(10))) == list(range(10))
    assert bulk.report('taken 10') == 0
    assert capsys.readouterr().out == 'taken 10, refused 0\n'
    assert said.getvalue() == ''


@pytest.mark.parametrize('at_a_time', [1, 3])
def test_some_at_a_time(at_a_time: int) -> None:
    bulk, _ = make(at_a_time)
    busy: set[int] = set()
    most: list[int] = []

    async def take(thing: int) -> None:
        busy.add(thing)
        most.append(len(busy))
        await asyncio.sleep(0)
        busy.remove(thing)

    asyncio.run(bulk.each(iter(range(10)), take))
    assert max(most) == at_a_time


@pytest.mark.parametrize(
    ('failure', 'line'),
    [
        (StorageFull('No room.'), 'asgilook: No room.\n'),
        (StorageUnavailable('Not now.'), 'asgilook: Not now. (a wire)\n'),
    ],
)
def test_failure_ends_it(failure: AsgilookError, line: str, capsys: Captured) -> None:
    if isinstance(failure, StorageUnavailable):
        failure.__cause__ = OSError('a wire')
    bulk, _ = make(1)
    assert run(bulk, list(range(10)), failure) == [0, 1, 2, 3]
    assert bulk.failure is failure
    assert bulk.report('taken 3') == 1
    assert capsys.readouterr().err == line


def test_signal_ends_it(capsys: Captured) -> None:
    bulk, said = make()
    begun = []

    async def take(thing: int) -> None:
        begun.append(thing)
        if len(begun) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: bulk.ended)
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)

    async def main() -> None:
        bulk.obey()
        await bulk.each(iter(range(10**9)), take)

    asyncio.run(main())
    assert bulk.signal == signal.SIGTERM
    assert said.getvalue() == 'stopping once the files under way are done\n'
    assert bulk.report('taken some') == 128 + signal.SIGTERM
    assert capsys.readouterr().err == 'asgilook: stopped; run it again to go on\n'


def test_what_is_refused_is_told(capsys: Captured) -> None:
    bulk, said = make()
    bulk.refuse('a name', 'a reason')
    bulk.refuse('a\nname', 'a reason')
    assert said.getvalue() == "a name: a reason\n'a\\nname': a reason\n"
    assert bulk.report('taken 0') == 1
    assert capsys.readouterr().out == 'taken 0, refused 2\n'
