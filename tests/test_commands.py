"""The commands of README.md, as they are written there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .servers import HOST, Server, require

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent


def first_steps() -> list[str]:
    """Return the commands of the section, in order."""
    readme = (ROOT / 'README.md').read_text('utf-8')
    (section,) = re.findall(r'^## First steps\n(.*?)^## ', readme, re.M | re.S)
    return re.findall(r'^    (.+)$', section, re.M)


def bash(folder: Path, commands: list[str], port: int) -> list[str]:
    """Run commands of the README against a service; return what they print."""
    require('curl')
    (folder / 'docs').symlink_to(ROOT / 'docs')
    # NOTE(newlines): curl ends no line after a body of JSON.
    script = '\necho\n'.join(commands).replace('localhost:8000', f'{HOST}:{port}')
    done = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / 'docs').unlink()
    assert done.returncode == 0, done
    return [line for line in done.stdout.splitlines() if line]


def test_first_steps(tmp_path: Path) -> None:
    commands = first_steps()
    (restart,) = (i for i, each in enumerate(commands) if 'bin/asgilook' in each)
    (token,) = re.findall(r'^ASGI_LOOK_API_TOKEN=(\S+) ', commands[restart])
    with Server(tmp_path) as server:
        before = [*commands[:restart], 'echo $image']
        uploaded, listed, *cached, image = bash(tmp_path, before, server.port)
    assert json.loads(listed) == [json.loads(uploaded)]
    assert cached == ['x-asgilook-cache: Miss', 'x-asgilook-cache: Hit']
    assert image == json.loads(uploaded)['image']
    assert (tmp_path / 'thumbnail.jpeg').read_bytes().startswith(b'\xff\xd8')
    with Server(tmp_path, api_token=token) as server:
        after = [f'image={image}', *commands[restart + 1 :]]
        (uploaded,) = bash(tmp_path, after, server.port)
        assert server.images() == [json.loads(uploaded)]
