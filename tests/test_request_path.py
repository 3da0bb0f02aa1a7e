"""How many modules of the package a request enters: the fewer, the easier to follow."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from falcon.testing import ASGIConductor

import asgilook
from asgilook.app import create_app
from asgilook.config import Config

PACKAGE = str(Path(asgilook.__file__).parent)

# Without those of the server's protocol.
MAX_MODULES = {'hit': 10, 'miss': 28, 'upload': 40}


# Set in the context of the requests, and not in that of the tasks of the service.
is_request = ContextVar('is_request', default=False)


class Profile:
    """Collects the modules whose functions requests call, and all worker threads."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._loop_thread = threading.get_ident()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        if event != 'call' or not path.startswith(PACKAGE):
            return
        if is_request.get() or threading.get_ident() != self._loop_thread:
            name = path[len(PACKAGE) + 1 :].removesuffix('.py').replace('/', '.')
            self.modules.add(name)

    def take(self) -> set[str]:
        """Return the modules since the last call."""
        modules, self.modules = self.modules, set()
        return modules


@pytest.fixture
def profile() -> Iterator[Profile]:
    """Return a profile of this thread, and of all that it starts."""
    profile = Profile()
    before = sys.getprofile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    yield profile
    sys.setprofile(before)
    threading.setprofile(before)


async def test_modules_entered(config: Config, photo: bytes, profile: Profile) -> None:
    found: dict[str, set[str]] = {}
    async with ASGIConductor(create_app(config)) as conductor:
        profile.take()
        is_request.set(True)
        image = (await conductor.simulate_post('/images', body=photo)).json
        found['upload'] = profile.take()
        await asyncio.sleep(0.3)  # the event of the upload comes back from Redis
        profile.take()
        await conductor.simulate_get(image['thumbnails'][0])
        found['miss'] = profile.take()
        result = await conductor.simulate_get(image['thumbnails'][0])
        found['hit'] = profile.take()
        assert result.headers['x-asgilook-cache'] == 'Hit'
    too_many = {
        name: sorted(modules)
        for name, modules in found.items()
        if len(modules) > MAX_MODULES[name]
    }
    assert too_many == {}
