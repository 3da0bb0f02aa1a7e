from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from asgilook.metrics import rows
from asgilook.metrics.rows import RowTable


def test_rows_of_a_process() -> None:
    table = RowTable(2)
    assert list(table.items()) == []
    one = table.row(('a', ''))
    table.row(('a', 'b'))[1] += 2.5
    one[0] += 1
    table.row(('a', ''))[0] += 1
    assert dict(table.items()) == {('a', ''): [2, 0], ('a', 'b'): [0, 2.5]}


def test_rows_are_shared_through_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / 'table')
    first, second = RowTable(2, path), RowTable(2, path)
    first.row(('a',))[0] += 1
    second.row(('b',))[0] += 2
    second.row(('a',))[0] += 4
    for table in first, second, RowTable(2, path):
        assert dict(table.items()) == {('a',): [5, 0], ('b',): [2, 0]}


def test_full_table_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, 'MAX_ROWS', 2)
    table = RowTable(1)
    for name in ('a', 'b', 'c', 'b'):
        table.row((name,))[0] += 1
    assert dict(table.items()) == {('a',): [1], ('b',): [2]}


def test_row_is_never_read_in_part(tmp_path: Path) -> None:
    """The table is read before each line that adds a row to it."""
    path = str(tmp_path / 'table')
    table, other = RowTable(1, path), RowTable(1, path)
    seen: list[list[tuple[rows.Key, list[float]]]] = []

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is not RowTable.row.__code__:
            return None
        seen.append(list(other.items()))
        return trace

    def add() -> None:
        sys.settrace(trace)  # of this thread
        table.row(('a',))

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    assert seen[0] == []
    assert seen[-1] == [(('a',), [0])]
    assert all(found in (seen[0], seen[-1]) for found in seen)
