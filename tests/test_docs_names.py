"""Names and texts in the documents, compared with the code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from falcon.testing import TestClient

from asgilook.config import settings
from asgilook.validators import ENV_PREFIX

from .log_messages import GAP, PACKAGE, log_messages, pattern

ROOT = PACKAGE.parent
PAGES = [
    *ROOT.glob('*.md'),
    *ROOT.glob('docs/*.md'),
    ROOT / 'benchmarks' / 'README.md',
    ROOT / 'deploy' / 'grafana.json',
    ROOT / 'deploy' / 'prometheus' / 'asgilook.rules.yml',
]

# A series that only a service with several workers has.
WORKERS = 'asgilook_workers'


def read(name: str) -> str:
    return (ROOT / name).read_text('utf-8')


def table(text: str) -> list[list[str]]:
    """Return the cells of all rows of the tables in a text."""
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('| ')
    ]


def section(name: str, title: str) -> str:
    """Return the text of a page from a title or words in bold up to the next ones."""
    return re.split(r'^(?:#|\*\*)', read(name).partition(title)[2], flags=re.M)[0]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_metrics_exist(page: Path, client: TestClient) -> None:
    help_ = client.simulate_get('/metrics').text
    known = {WORKERS, *re.findall(r'^# HELP (\w+)', help_, re.M)}
    names = re.findall(r'\basgilook_[a-z_]+', page.read_text('utf-8'))
    series = (re.sub(r'_seconds_(bucket|count|sum)$', '_seconds', n) for n in names)
    assert set(series) <= known


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_and_benchmarks_exist(page: Path) -> None:
    text = page.read_text('utf-8')
    paths = re.findall(r'`((?:benchmarks|deploy|docs|tests)/[\w./-]+)`', text)
    modules = re.findall(r'python -m benchmarks\.(\w+)', text)
    paths += [f'benchmarks/{module}.py' for module in modules]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_benchmark_is_explained() -> None:
    runnable = {
        path.stem
        for path in (ROOT / 'benchmarks').glob('*.py')
        if "__name__ == '__main__'" in path.read_text('utf-8')
    }
    text = read('benchmarks/README.md')
    assert runnable == set(re.findall(r'python -m benchmarks\.(\w+)', text))


def is_module(name: str) -> bool:
    """Return whether a dotted name is that of a module."""
    return PACKAGE.joinpath(*name.split('.')).with_suffix('.py').is_file()


def packages() -> set[str]:
    """Return the names of the packages below `asgilook`."""
    return {path.parent.name for path in PACKAGE.glob('*/__init__.py')}


def test_architecture_names_modules_that_exist() -> None:
    text = read('docs/architecture.md')
    names = re.findall(rf'`((?:{"|".join(packages())})\.\w+)', text)
    assert len(names) > 20
    for first, second, *_ in table(text):
        if owner := re.fullmatch(r'`(\w+)/`', first.rpartition(', ')[2]):
            modules = re.findall(r'`([a-z_0-9]+)`', second)
            names += [f'{owner[1]}.{module}' for module in modules]
    assert [name for name in names if not is_module(name)] == []


def test_architecture_names_every_package_and_module() -> None:
    text = read('docs/architecture.md')
    names = packages() | {path.stem for path in PACKAGE.glob('[!_]*.py')}
    assert {name for name in names if not re.search(rf'\b{name}\b', text)} == set()


def constants() -> list[str]:
    """Return all texts in the code of the package."""
    return [
        node.value
        for path in PACKAGE.rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text('utf-8')))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_troubleshooting_quotes_problems() -> None:
    (_, _, *rows) = table(section('docs/troubleshooting.md', '**503**'))
    quotes = [row[0].removesuffix(f' {GAP}') for row in rows]
    texts = constants()
    assert len(quotes) >= 5
    assert [q for q in quotes if not any(t.startswith(q) for t in texts)] == []


def test_deploy_quotes_log_lines() -> None:
    text = read('docs/deploy.md')
    lines = re.findall(r'^    (storage folder .+)$', text, re.M)
    (part,) = re.findall(r'\(`(image files [^`]+)`\)', text)
    messages = log_messages()
    assert len(lines) == 2
    for line in lines:
        assert any(re.fullmatch(pattern(each), line) for each in messages), line
    assert any(part in each for each in messages)


def test_api_lists_every_operation() -> None:
    paths = json.loads(read('asgilook/resources/openapi.json'))['paths']
    operations = {
        (method.upper(), path.replace('{image_id}', 'ID').replace('{size}', 'WxH'))
        for path, methods in paths.items()
        for method in methods
        if method in ('get', 'post', 'delete') and not path.endswith('.webp')
    }
    listed = set()
    for first, *_ in table(read('docs/api.md')):
        method = 'GET'
        for name, path in re.findall(r'`(?:([A-Z]+) )?(/[^`]*)`', first):
            method = name or method
            listed.add((method, path))
    assert listed == operations


def test_api_states_the_defaults_of_limits() -> None:
    defaults = {ENV_PREFIX + f.name.upper(): f.metadata['default'] for f in settings()}
    rows = [row for row in table(read('docs/api.md')) if ENV_PREFIX in row[-1]]
    assert len(rows) >= 5
    for _, default, name in rows:
        assert (
            default.replace(',', '').split()[0] == defaults[name.strip('`')].split()[0]
        )
