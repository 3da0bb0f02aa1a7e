"""Format of the log: every line has its time, level and worker, as text or as JSON."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

TEXT = '%(asctime)s %(levelname)s [%(process)d] %(message)s'


class TextFormatter(logging.Formatter):
    """Formats `2026-11-24T16:59:55.123+00:00 INFO [4711] message`."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the time in ISO 8601, in UTC, with milliseconds."""
        return _time(record)


class JsonFormatter(logging.Formatter):
    """Formats a line of JSON; a record's `fields` are its members."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object, with the exception in it if there is one."""
        line: dict[str, Any] = {
            'time': _time(record),
            'level': record.levelname,
            'worker': record.process,
        }
        fields: dict[str, Any] | None = getattr(record, 'fields', None)
        if fields is None:
            line |= {'logger': record.name, 'message': record.getMessage()}
        else:
            line |= fields
        if record.exc_info:
            line['exception'] = self.formatException(record.exc_info)
        return json.dumps(line)


def _time(record: logging.LogRecord) -> str:
    time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return time.isoformat(timespec='milliseconds')


def log_config(form: str) -> dict[str, Any]:
    """Return the configuration of logging for uvicorn (`logging.config.dictConfig`).

    The service's log and uvicorn's own go to standard error, the access log to standard
    output. `form` is `text`, `json` or `none`, as in the setting `access_log`.
    """
    formatter = 'JsonFormatter' if form == 'json' else 'TextFormatter'
    return {
        'version': 1,
        'disable_existing_loggers': False,
        'formatters': {'line': {'()': f'{__name__}.{formatter}'}},
        'handlers': {
            'stderr': {
                'class': 'logging.StreamHandler',
                'formatter': 'line',
                'stream': 'ext://sys.stderr',
            },
            'stdout': {
                'class': 'logging.StreamHandler',
                'formatter': 'line',
                'stream': 'ext://sys.stdout',
            },
        },
        # What other libraries log. aioredis warns of each connection that it closes.
        'root': {'handlers': ['stderr'], 'level': 'WARNING'},
        'loggers': {
            'aioredis': {'level': 'ERROR'},
            'uvicorn': {'handlers': ['stderr'], 'level': 'INFO', 'propagate': False},
            'asgilook': {'handlers': ['stderr'], 'level': 'INFO', 'propagate': False},
            'asgilook.access': {'handlers': ['stdout'], 'propagate': False},
        },
    }
