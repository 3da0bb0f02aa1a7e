from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from asgilook import errors
from asgilook.errors import AsgilookError, Busy, Unavailable


def test_every_error_is_caught_as_one() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 10
    assert [kind for kind in kinds if not issubclass(kind, AsgilookError)] == []


def test_unavailable_has_the_seconds_until_a_retry() -> None:
    assert Unavailable('Not now.').retry_after == 1
    assert Busy('Not now.', 7).retry_after == 7
    assert str(Busy('Not now.', 7)) == 'Not now.'


@pytest.mark.parametrize('package', ['falcon', 'uvicorn', 'PIL', 'aioredis'])
def test_errors_load_no_package(package: str) -> None:
    code = f'import asgilook.errors, sys; sys.exit({package!r} in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
