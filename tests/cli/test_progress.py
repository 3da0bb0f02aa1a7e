from __future__ import annotations

import io

from asgilook.cli.progress import LEAST_STEP, LINES, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def follow(file: io.StringIO, total: int) -> list[str]:
    """Return what is told of `total` files, with a word in the middle."""
    progress = Progress(total, file)
    for number in range(total):
        if number == total // 2:
            progress.say('half of it')
        progress.advance()
    progress.close()
    return file.getvalue().replace('\r', '\n').splitlines()


def test_lines_without_a_terminal() -> None:
    total = 2 * LEAST_STEP + 1
    lines = follow(io.StringIO(), total)
    assert lines == [
        f'{LEAST_STEP} of {total} files',
        'half of it',
        f'{2 * LEAST_STEP} of {total} files',
    ]


def test_lines_are_few() -> None:
    lines = follow(io.StringIO(), 10 * LEAST_STEP * LINES)
    assert len(lines) == LINES + 1


def test_lines_of_nothing() -> None:
    assert follow(io.StringIO(), 0) == []


def test_bar_on_a_terminal() -> None:
    lines = follow(Terminal(), 20)
    assert 'half of it' in lines
    assert '20/20' in lines[-1]
    assert '100%' in lines[-1]
    assert not [line for line in lines if ' of 20 files' in line]
