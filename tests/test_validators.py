from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from asgilook import validators

number = validators.integer(1, 100)
word = validators.one_of('text', 'json')


@pytest.mark.parametrize(
    ('parse', 'text', 'value'),
    [
        (validators.text, 'none', 'none'),
        (validators.tokens, 'secret', 'secret'),
        (validators.tokens, 'none', None),
        (validators.tokens, 'None', None),
        (validators.tokens, 'new,old', 'new,old'),
        (validators.tokens, 'new,', 'new,'),
        (number, '1', 1),
        (number, '100', 100),
        (number, '007', 7),
        (validators.integer(0), str(2**53), 2**53),
        (validators.size, '0', 0),
        (validators.size, '4096', 4096),
        (validators.size, '512 KiB', 512 * 1024),
        (validators.size, '1MiB', 1024**2),
        (validators.size, '2 GiB', 2 * 1024**3),
        (validators.seconds, '0.25', 0.25),
        (validators.seconds, '86400', 86400),
        (validators.threads, '1', 1),
        (validators.threads, '256', 256),
        (validators.threads, 'number of CPUs', os.cpu_count()),
        (word, 'json', 'json'),
        (validators.origins, 'none', None),
        (validators.origins, '*', '*'),
        (validators.origins, 'https://a.example', ['https://a.example']),
        (
            validators.origins,
            'https://a.example, http://b.example:8080',
            ['https://a.example', 'http://b.example:8080'],
        ),
    ],
)
def test_valid(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ('parse', 'text', 'problem'),
    [
        *(
            (number, text, 'from 1 to 100')
            for text in ('0', '101', '-1', '1.0', '', 'x')
        ),
        *((number, text, 'from 1 to 100') for text in ('1_0', ' 1', '1\n', '\u0661')),
        (validators.integer(0), str(2**53 + 1), 'from 0 to'),
        *((validators.size, text, '512 KiB') for text in ('', '-1', '1 KB', '1  MiB')),
        *((validators.size, text, '512 KiB') for text in ('1.5 MiB', '1 MiB\n', 'MiB')),
        *((validators.seconds, text, 'above 0') for text in ('0', '-1', 'x', '')),
        *((validators.seconds, text, 'above 0') for text in ('86400.1', 'nan', 'inf')),
        *((validators.threads, text, 'from 1 to 256') for text in ('0', '257', 'all')),
        *((word, text, 'one of text, json') for text in ('', 'TEXT', 'xml')),
        *((validators.origins, text, 'comma-separated') for text in ('', 'a.example')),
        (validators.origins, 'https://a.example/', 'comma-separated'),
        (validators.origins, 'https://a.example,*', 'comma-separated'),
    ],
)
def test_invalid(parse: Callable[[str], Any], text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)
