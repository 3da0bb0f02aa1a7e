from __future__ import annotations

import io
import json
import logging
import logging.config
import re
from typing import Any

import pytest

from asgilook.web.log_format import JsonFormatter, TextFormatter, log_config


def record(message: str, **attributes: Any) -> logging.LogRecord:
    values = {'name': 'asgilook.x', 'levelno': logging.INFO, 'levelname': 'INFO'}
    values |= {'msg': message, 'created': 0.25, 'process': 4711}
    return logging.makeLogRecord(values | attributes)


def fault() -> Any:
    try:
        raise ValueError('three\nlines')
    except ValueError as ex:
        return type(ex), ex, ex.__traceback__


def test_text() -> None:
    line = TextFormatter().format(record('started'))
    assert line == '1970-01-01T00:00:00.250+00:00 INFO [4711] started'


def test_json() -> None:
    line = JsonFormatter().format(record('a "quoted"\nmessage'))
    assert json.loads(line) == {
        'time': '1970-01-01T00:00:00.250+00:00',
        'level': 'INFO',
        'worker': 4711,
        'logger': 'asgilook.x',
        'message': 'a "quoted"\nmessage',
    }
    assert '\n' not in line


def test_json_of_fields() -> None:
    line = JsonFormatter().format(record('ignored', fields={'status': 200}))
    assert json.loads(line) == {
        'time': '1970-01-01T00:00:00.250+00:00',
        'level': 'INFO',
        'worker': 4711,
        'status': 200,
    }


def test_exception_is_part_of_the_line() -> None:
    line = JsonFormatter().format(record('failed', exc_info=fault()))
    assert 'ValueError: three\nlines' in json.loads(line)['exception']
    assert '\n' not in line


@pytest.mark.parametrize(
    ('form', 'expected'),
    [('text', r'[-+:.T\d]+ INFO \[\d+\] m\n'), ('json', r'\{.*\}\n')],
)
def test_log_config(form: str, expected: str) -> None:
    configurator = logging.config.DictConfigurator(log_config(form))
    formatter = configurator.configure_formatter(
        configurator.config['formatters']['line']
    )
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.setFormatter(formatter)
    handler.emit(record('m'))
    assert re.fullmatch(expected, stream.getvalue())
    assert set(log_config(form)['loggers']) == {
        'uvicorn',
        'asgilook',
        'asgilook.access',
        'aioredis',
    }
