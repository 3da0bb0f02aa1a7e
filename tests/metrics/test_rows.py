from __future__ import annotations

from pathlib import Path

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
