"""Where the lines of the service's logs go."""

from __future__ import annotations

import copy
from typing import Any

import uvicorn.config


def log_config() -> dict[str, Any]:
    """Let the service's own log lines go where uvicorn's go."""
    settings = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    handlers, formatters = settings['handlers'], settings['formatters']
    settings['loggers']['asgilook'] = {'handlers': ['default'], 'level': 'INFO'}
    formatters['line'] = {'format': '%(message)s'}
    handlers['line'] = {**handlers['access'], 'formatter': 'line'}
    settings['loggers']['asgilook.access'] = {
        'handlers': ['line'],
        'propagate': False,
    }
    return settings
