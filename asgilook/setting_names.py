"""Names of settings as environment variables, and suggestions for wrong names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

ENV_PREFIX = 'ASGI_LOOK_'

# Minimum similarity of names for a suggestion, from 0 to 1: that of `TOKEN` and
# `API_TOKEN` is 0.77.
_SIMILARITY = 0.6
# Command-line options, which are not settings.
_OPTIONS = ('host', 'port', 'workers')

_SECRET = re.compile('TOKEN|SECRET|PASS|KEY|AUTH|CREDENTIAL')


def misspelled(variables: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Return variables that are probably meant to be settings, and the right names.

    Their prefix is spelled differently, as in `ASGILOOK_API_TOKEN`.
    """
    prefixed = (name for name in variables if re.match('ASGI_?LOOK_', name.upper()))
    found = {
        name: _similar(name, known)
        for name in prefixed
        if not name.startswith(ENV_PREFIX)
    }
    return {name: similar[0] for name, similar in found.items() if similar}


def advice(name: str, known: Sequence[str]) -> str:
    """Return advice on what to use instead of an unknown variable."""
    option = name.removeprefix(ENV_PREFIX).lower()
    if option in _OPTIONS:
        return f'use the option --{option} of `asgilook serve`'
    if similar := _similar(name, known):
        return f'did you mean {" or ".join(similar)}?'
    return '`asgilook config` lists all settings'


def may_be_secret(name: str, known: Sequence[str]) -> bool:
    """Return whether an unknown variable may be a misspelled secret."""
    names = [name.upper(), *_similar(name, known)]
    return any(_SECRET.search(each) for each in names)


def _similar(name: str, known: Sequence[str]) -> list[str]:
    """Return up to three known variables, the most similar one first.

    These are the ones with the same first word, if there are any.
    """
    word = re.sub('^ASGI_?LOOK_?', '', name.upper())
    names = [each.removeprefix(ENV_PREFIX) for each in known]
    related = [each for each in names if each.split('_')[0] == word.split('_')[0]]
    cutoff = 0.0 if related else _SIMILARITY
    found = get_close_matches(word, related or names, 3, cutoff)
    return [ENV_PREFIX + each for each in found]
