from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgilook.web.record import SCOPE_KEY, Record, Representation

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / 'asgilook'
HEADING = "## Values in Falcon's contexts"


def make_record(**scope: Any) -> Record:
    defaults = {'method': 'GET', 'path': '/x', 'query_string': b'', 'headers': []}
    return Record({**defaults, **scope})


@pytest.mark.parametrize(
    ('scope', 'target'),
    [
        ({}, '/x'),
        ({'query_string': b'a=\xff'}, '/x?a=\xff'),
        ({'raw_path': b'/x'}, '/x'),
        ({'raw_path': None}, '/x'),
        ({'raw_path': b'/%78'}, None),
        ({'path': '//x', 'raw_path': b'//x'}, None),
        ({'path': '//x'}, None),
    ],
)
def test_target_is_canonical(scope: dict[str, Any], target: str | None) -> None:
    assert make_record(**scope).target == target


def test_repeated_headers_are_joined() -> None:
    headers = [(b'accept', b'a'), (b'host', b'h'), (b'accept', b'b'), (b'accept', b'c')]
    assert make_record(headers=headers).headers == {b'accept': b'a,b,c', b'host': b'h'}


def test_request_ids_differ() -> None:
    ids = {make_record().request_id for _ in range(100)}
    assert len(ids) == 100


async def test_representation_without_a_check_is_current() -> None:
    assert await Representation(None, 'etag', 'text/html', ()).is_current()


# Shared values


Place = tuple[str, str]


def accesses(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield the shared values that a module writes (True) or reads (False)."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == 'get'
            and is_context(node.func.value)
        ):
            key = ast.literal_eval(node.args[0])
            yield f'{ast.unparse(node.func.value)}.{key}', False
        if isinstance(node, ast.Call) and ast.unparse(node) in (
            'representation_of(req)',
            'image_of(req)',
        ):
            yield 'record.representation', False
        if isinstance(node, ast.Attribute):
            written = isinstance(node.ctx, ast.Store)
            if is_context(node.value) and node.attr != 'get':
                yield ast.unparse(node), written
            if is_record(node.value):
                yield f'record.{node.attr}', written


def is_context(node: ast.AST) -> bool:
    return ast.unparse(node) in ('req.context', 'resp.context')


def is_record(node: ast.AST) -> bool:
    return ast.unparse(node) in ('record', 'self._record', 'record_of(req)')


def passed_on() -> dict[str, tuple[set[str], set[str]]]:
    """Return the writers and the readers of each shared value."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in PACKAGE.rglob('*.py'):
        source = path.read_text()
        name = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
        if '.context' in source or 'record import' in source:
            for value, written in accesses(ast.parse(source)):
                found[value][0 if written else 1].add(name)
    constant = {'headers', 'method', 'request_id', 'returns_id', 'started', 'target'}
    methods = {'has_started'}
    return {
        value: modules
        for value, modules in found.items()
        if value.removeprefix('record.') not in constant | methods
    }


def test_documentation_lists_what_is_passed_on() -> None:
    text = (ROOT / 'docs' / 'architecture.md').read_text()
    section, _, _ = text.partition(HEADING)[2].partition('\n## ')
    rows = {}
    for line in section.splitlines():
        if line.startswith('| `'):
            value, writers, readers = line.strip('| ').split(' | ')
            rows[value.strip('`')] = (names(writers), names(readers))
    assert rows == passed_on()


def names(cell: str) -> set[str]:
    return set(re.findall('`([^`]+)`', cell))


def test_one_key_is_written_to_the_scope() -> None:
    written = set()
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value).endswith('scope')
            ):
                written.add(ast.unparse(node.slice))
    assert written == {'SCOPE_KEY'}
    assert SCOPE_KEY.startswith('asgilook.')
