"""A short run of `benchmarks.chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import Chaos

pytestmark = pytest.mark.integration


def test_faults_under_load(tmp_path: Path) -> None:
    """Nothing that was acknowledged is lost while workers and Redis fail."""
    with Chaos(tmp_path, 'folder', seed=1) as chaos:
        chaos.run(
            6,
            pattern='killed|stopped|frozen',
            interval=1.5,
            durations=(0.2, 1, 2),
            max_recovery=60,
        )
    chaos.report()
    assert chaos.ledger.violations == []
