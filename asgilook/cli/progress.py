"""How far a long command is: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

from typing import TextIO

import tqdm

# Without a terminal: so many lines from the beginning to the end, or fewer.
LINES = 20
LEAST_STEP = 100


class Progress:
    """What is told while files are worked on; `total` is None where nobody knows."""

    def __init__(self, total: int | None, file: TextIO) -> None:
        self._of = '' if total is None else f' of {total}'
        self._step = 1000 if total is None else max(LEAST_STEP, total // LINES)
        self._file = file
        self._done = 0
        self._bar = tqdm.tqdm(
            total=total, unit='file', file=file, disable=not file.isatty()
        )

    def advance(self) -> None:
        """Note that one more file is done."""
        self._done += 1
        self._bar.update()
        if self._bar.disable and self._done % self._step == 0:
            self.say(f'{self._done}{self._of} files')

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        tqdm.tqdm.write(line, file=self._file)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
