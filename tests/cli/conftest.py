"""Fixtures for the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

_LOGGERS = ('', 'asgilook', 'asgilook.access', 'aioredis', 'uvicorn')


@pytest.fixture(autouse=True)
def restore_loggers() -> Iterator[None]:
    """Undo the logging configuration of `asgilook serve`, which hides lines."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(log.level, log.propagate, log.handlers[:]) for log in loggers]
    yield
    for log, (level, propagate, handlers) in zip(loggers, before, strict=True):
        log.setLevel(level)
        log.propagate = propagate
        log.handlers[:] = handlers
