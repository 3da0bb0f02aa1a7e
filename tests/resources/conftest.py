"""The browser of the tests of the gallery."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ..servers import require

# Chromium must not contact any host but the service.
OPTIONS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--no-first-run',
    '--disable-component-update',
    '--disable-sync',
]


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    # The shell needs half of the CPU time.
    chromium = require('chromium-headless-shell', 'chromium')
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        options: Any = {'executable_path': chromium, 'args': OPTIONS}
        with contextlib.closing(playwright.chromium.launch(**options)) as browser:
            yield browser
