"""Chromium, controlled by Playwright, and a service with the gallery."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    expect,
    sync_playwright,
)

from ... import samples
from ...servers import Server, require
from .window import Window, Windows

# Chromium must not contact any host but the service.
OPTIONS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--no-first-run',
    '--disable-component-update',
    '--disable-sync',
]


@pytest.fixture(scope='package')
def browser() -> Iterator[Browser]:
    """Return a browser; while it is open, its event loop excludes any other."""
    # The shell needs half of the CPU time.
    chromium = require('chromium-headless-shell', 'chromium')
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        options: Any = {'executable_path': chromium, 'args': OPTIONS}
        with contextlib.closing(playwright.chromium.launch(**options)) as browser:
            yield browser


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def server(tmp_path: Path, settings: dict[str, Any]) -> Iterator[Server]:
    with Server(tmp_path, **settings) as server:
        yield server


@pytest.fixture
def windows(browser: Browser, server: Server) -> Iterator[Windows]:
    windows = Windows(browser, server)
    yield windows
    windows.close()


@pytest.fixture
def window(windows: Windows) -> Window:
    return windows()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Return three image files: landscape, portrait, square."""
    paths = []
    for number, size in enumerate([(1600, 1000), (800, 1200), (900, 900)]):
        path = tmp_path / f'photo {number}.jpg'
        path.write_bytes(samples.photo(*size, number))
        paths.append(path)
    return paths
