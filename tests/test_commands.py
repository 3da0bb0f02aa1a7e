"""The commands of README.md and docs/api.md, as they are written there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from . import samples
from .servers import HOST, Server, require

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent


def commands(page: str, title: str) -> list[str]:
    """Return the commands of a section, in order."""
    text = (ROOT / page).read_text('utf-8')
    (section,) = re.findall(rf'^## {title}\n(.*?)^## ', text, re.M | re.S)
    return re.findall(r'^    (.+)$', section, re.M)


def bash(folder: Path, lines: list[str], port: int) -> list[str]:
    """Run commands against a service, as in the project's folder; return the output."""
    require('curl')
    (folder / 'docs').symlink_to(ROOT / 'docs')
    # NOTE(newlines): curl ends no line after a body of JSON.
    script = '\necho\n'.join(lines).replace('localhost:8000', f'{HOST}:{port}')
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
    steps = commands('README.md', 'First steps')
    (restart,) = (i for i, each in enumerate(steps) if 'bin/asgilook' in each)
    (token,) = re.findall(r'^ASGI_LOOK_API_TOKEN=(\S+) ', steps[restart])
    with Server(tmp_path) as server:
        before = [*steps[:restart], 'echo $image']
        uploaded, listed, *cached, image = bash(tmp_path, before, server.port)
    assert json.loads(listed) == [json.loads(uploaded)]
    assert cached == ['x-asgilook-cache: Miss', 'x-asgilook-cache: Hit']
    assert image == json.loads(uploaded)['image']
    assert (tmp_path / 'thumbnail.jpeg').read_bytes().startswith(b'\xff\xd8')
    with Server(tmp_path, api_token=token) as server:
        after = [f'image={image}', *steps[restart + 1 :]]
        (uploaded,) = bash(tmp_path, after, server.port)
        assert server.images() == [json.loads(uploaded)]


def test_curl(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        steps = commands('docs/api.md', 'curl')
        body, form, keyed, repeated, link, head, again, *events, error = bash(
            tmp_path, steps, server.port
        )
        images = server.images()
    assert [json.loads(each) for each in (body, form, keyed)] == images
    assert repeated == keyed
    assert re.search(r'<(.+)>; rel="next"', link)
    assert head == 'HTTP/1.1 200 OK'
    assert again == '304'
    assert events[0].startswith('retry: ')
    assert json.loads(error)['detail'].endswith(f'{images[0]["image"]}?')
    whole = (tmp_path / 'image.jpeg').read_bytes()
    assert (tmp_path / 'start').read_bytes() == whole[:1000]
    assert (tmp_path / 'thumbnail.jpeg').read_bytes().startswith(b'\xff\xd8')
    assert (tmp_path / 'thumbnail.webp').read_bytes().startswith(b'RIFF')


def test_python(tmp_path: Path) -> None:
    text = (ROOT / 'docs' / 'api.md').read_text('utf-8')
    (code,) = re.findall(r'^```python\n(.+?)^```', text, re.M | re.S)
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for number in range(3):
        (folder / f'{number}.jpg').write_bytes(samples.photo(200 + number, 150))
    with Server(tmp_path, api_token='s3cret', page_size=2) as server:
        for _ in range(2):
            arguments = [f'http://{HOST}:{server.port}', 's3cret', str(folder)]
            subprocess.run(
                [sys.executable, '-c', code, *arguments], cwd=tmp_path, check=True
            )
        images = server.images() + server.get('/images?order=newest&limit=1').json
        assert [each['size'] for each in images] == [[200, 150], [201, 150], [202, 150]]
        for image in images:
            thumbnail = (tmp_path / f'{image["id"]}.jpeg').read_bytes()
            assert thumbnail == server.get(image['thumbnails'][-1]).body
