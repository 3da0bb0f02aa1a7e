"""The texts of all warnings and errors that the package can log, read from its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import asgilook

PACKAGE = Path(asgilook.__file__).parent

LEVELS = frozenset({'warning', 'error', 'exception', 'critical', 'log'})

# A value in a text.
GAP = '...'

Function = ast.FunctionDef | ast.AsyncFunctionDef


def log_messages() -> set[str]:
    """Return the texts, with `...` for each value in them."""
    return {
        text
        for path in PACKAGE.rglob('*.py')
        for text in _of_module(ast.parse(path.read_text('utf-8')))
    }


def pattern(text: str) -> str:
    """Return a regular expression for a text with gaps."""
    return '.+'.join(map(re.escape, text.split(GAP)))


def _of_module(module: ast.Module) -> Iterator[str]:
    functions = [node for node in ast.walk(module) if isinstance(node, Function)]
    constants = _assigned(module)
    for function in functions:
        for call in _calls(function):
            if _is_log(call.func):
                text = _text(call.args[0]) or constants[ast.unparse(call.args[0])]
                if text.strip(f' :{GAP}'):
                    yield text
                else:
                    yield from _from_outside(function, functions)


def _from_outside(logging: Function, functions: list[Function]) -> Iterator[str]:
    """Yield what a function logs that gets its text as an argument."""
    for function in functions:
        assigned = _assigned(function)
        for call in _calls(function):
            if isinstance(call.func, ast.Attribute) and call.func.attr == logging.name:
                for argument in call.args:
                    if isinstance(argument, ast.Name) and argument.id in assigned:
                        yield assigned[argument.id]
                    elif text := _text(argument):
                        yield text


def _assigned(scope: ast.AST) -> dict[str, str]:
    """Return the texts that are assigned to variables."""
    found = [node for node in ast.walk(scope) if isinstance(node, ast.Assign)]
    texts = {ast.unparse(node.targets[0]): _text(node.value) for node in found}
    return {name: text for name, text in texts.items() if text}


def _calls(function: Function) -> list[ast.Call]:
    return [node for node in ast.walk(function) if isinstance(node, ast.Call)]


def _is_log(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in LEVELS
        and ast.unparse(function.value) == 'log'
    )


def _text(node: ast.expr) -> str:
    """Return a string constant or f-string, with gaps; '' for anything else."""
    if isinstance(node, ast.JoinedStr):
        parts = (_text(part) or GAP for part in node.values)
        return ''.join(parts)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r'%[-.\d]*[a-z]', GAP, node.value)
    return ''
