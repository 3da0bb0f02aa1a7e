from __future__ import annotations

import re
from pathlib import Path

import pytest

from asgilook.config import ENV_PREFIX, settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='module')
def readme() -> str:
    return (ROOT / 'README.md').read_text(encoding='utf-8')


def plain(cell: str) -> str:
    """Return a cell of a table without its backquotes."""
    return cell.strip().replace('`', '')


def test_readme_has_the_table_of_settings(readme: str) -> None:
    rows = [
        tuple(plain(cell) for cell in line.strip('|').split('|'))
        for line in readme.splitlines()
        if line.startswith(f'| `{ENV_PREFIX}')
    ]
    assert rows == [
        (
            ENV_PREFIX + field.name.upper(),
            plain(field.metadata['default']),
            plain(field.metadata['meaning']),
        )
        for field in settings()
    ]


@pytest.mark.parametrize(
    ('block', 'least'), [('REQUIREMENTS', 6), ('DATABASE', 3), ('REDIS', 1), ('S3', 1)]
)
def test_readme_names_the_dependencies(readme: str, block: str, least: int) -> None:
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    (required,) = re.findall(rf'^{block} = \[(.*?)\]\n', setup, re.DOTALL | re.M)
    names = re.findall(r"'([A-Za-z0-9-]+)", required)
    assert len(names) >= least
    assert [name for name in names if name.lower() not in readme.lower()] == []
