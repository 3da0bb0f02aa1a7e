"""Any text as a setting: its value, which is printed as it can be set, or an error."""

from __future__ import annotations

import os
import re

import hypothesis
import pytest
from hypothesis import strategies as st

from asgilook.config import Config, ConfigError, describe, settings
from asgilook.validators import ENV_PREFIX

NAMES = [field.name for field in settings()]

# Parts of valid and nearly valid values.
PARTS = [
    *('none', 'None', '*', 'text', 'json', 'number of CPUs', 'a', 'é', ' ', '_', '-'),
    *('0', '1', '64', '256', '257', '٣', '1e-400', 'nan', 'inf', '.', '9' * 5000),
    *('KiB', ' MiB', 'GiB', '9007199254740992', '\n', '\t', '\x7f', '\udcff', ','),
    *('redis://', 'rediss://', 'unix://', 'redis+sentinel://', 'redis+cluster://'),
    *('postgresql://', 'sqlite:///', 's3://', 'file:///', 'http://', 'https://'),
    *('host', 'bucket', 'a.example', 'u:p@', ':@', '@', '[::1]', '[', ':6379', ':0x1'),
    *(':99999', '/', '//', '/0', '/name', '?', '&', '=', '#', '%41', '%', '\\'),
    *('endpoint=', 'region=', 'access_key_id=a', 'secret_access_key=b', 'password=c'),
]

texts = st.text(max_size=20) | st.lists(st.sampled_from(PARTS), max_size=7).map(''.join)


def set_to(name: str, value: str) -> Config:
    return Config({ENV_PREFIX + name.upper(): value})


def check_printed(name: str, config: Config) -> None:
    """Check that the printed settings are those of `config`; `name` may be hidden."""
    printed = dict(line.split('=', 1) for line in describe(config).split('\n'))
    for variable in [each for each in printed if '***' in printed[each]]:
        assert variable == ENV_PREFIX + name.upper()
        del printed[variable]
        setattr(config, name, getattr(Config({}), name))
    again = Config(printed)
    assert {name: getattr(again, name) for name in NAMES} == {
        name: getattr(config, name) for name in NAMES
    }


@hypothesis.given(st.sampled_from(NAMES), texts)
@hypothesis.settings(max_examples=400)
@hypothesis.example('page_size', '9' * 5000)
@hypothesis.example('cache_memory', '9' * 4300 + 'GiB')
@hypothesis.example('storage_path', '/srv\n/images')
@hypothesis.example('redis_host', 'redis://cache\n.example')
@hypothesis.example('cors_origins', 'https://user:password@a.example')
def test_printed_settings_have_the_same_values(name: str, value: str) -> None:
    try:
        config = set_to(name, value)
    except ConfigError as ex:
        message = ex.problem
    else:
        check_printed(name, config)
        return
    assert re.search(r'\b(must|may)\b', message)


@pytest.mark.parametrize('count', [None, 1, 256, 257])
def test_default_number_of_threads_is_valid(
    count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'cpu_count', lambda: count)
    threads = Config({}).threads
    assert threads == min(count or 1, 256)
    assert set_to('threads', str(threads)).threads == threads


@hypothesis.given(
    st.sampled_from(['storage_url', 'database_url', 'redis_host', 'cors_origins']),
    st.sampled_from([part for part in PARTS if part.endswith('://')]),
    *3 * [st.lists(st.sampled_from(PARTS), max_size=3).map(''.join)],
)
@hypothesis.settings(max_examples=200)
@hypothesis.example('redis_host', 'redis://', 'user', '\n', 'cache.example')
@hypothesis.example('database_url', 'postgresql://', 'u@a.example', '', 'host/name')
def test_password_is_never_printed(
    name: str, scheme: str, user: str, more: str, rest: str
) -> None:
    try:
        shown = describe(set_to(name, f'{scheme}{user}:s3cret{more}@{rest}'))
    except ConfigError as ex:
        shown = str(ex)
    assert 's3cret' not in shown
