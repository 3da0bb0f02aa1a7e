"""deploy/nginx.conf, in a real nginx in front of a service."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import samples
from .servers import HOST, Answer, Process, Server, free_port, require, until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / 'deploy' / 'nginx.conf'
CACHE = '/var/cache/nginx/asgilook'
CERTIFICATE = '/etc/ssl/certs/ssl-cert-snakeoil.pem'
KEY = '/etc/ssl/private/ssl-cert-snakeoil.key'

TOKEN = {'Authorization': 'Bearer s3cret'}

# What Debian's nginx.conf contains, with all files in one folder.
MAIN = """
user root;
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/asgilook.conf;
}}
"""


class Nginx(Process):
    """nginx with the shipped configuration, whose addresses and paths are replaced."""

    ready = 'start worker process '

    def __init__(self, folder: Path, service: Server, *, valid: str = '1m') -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.cache = folder / 'cache'
        self._tls = ssl.create_default_context(cafile=make_certificate(folder))
        replaced = {
            CACHE: str(self.cache),
            CERTIFICATE: f'{folder}/certificate.pem',
            KEY: f'{folder}/key.pem',
            'server 127.0.0.1:8000;': f'server {HOST}:{service.port};',
            'listen 80;': f'listen {HOST}:{self.plain_port};',
            'listen [::]:80;': '',
            'listen 443 ': f'listen {HOST}:{self.port} ',
            'listen [::]:443 ssl http2;': '',
            'proxy_cache_valid 200 1m;': f'proxy_cache_valid 200 {valid};',
        }
        text = CONFIGURATION.read_text('utf-8')
        for old, new in replaced.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / 'asgilook.conf').write_text(text)
        (folder / 'nginx.conf').write_text(MAIN.format(folder=folder))
        super().__init__(folder, require('nginx'), '-c', f'{folder}/nginx.conf')

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            HOST, self.port, timeout=60, context=self._tls
        )

    def ask(
        self, method: str, path: str, body: bytes | None = None, /, **headers: str
    ) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            named = {name.replace('_', '-'): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            with connection.getresponse() as response:
                return Answer(response.status, response.headers, response.read())

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return the status of a GET, and what the cache reports."""
        answer = self.ask('GET', path, **headers)
        return answer.status, answer.headers['X-Cache-Status']


def make_certificate(folder: Path) -> str:
    path = f'{folder}/certificate.pem'
    names = ['-subj', '/CN=localhost', '-addext', f'subjectAltName=IP:{HOST}']
    files = ['-keyout', f'{folder}/key.pem', '-out', path]
    command = [require('openssl'), 'req', '-x509', '-newkey', 'rsa:2048', '-nodes']
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, api_token='s3cret') as server:
        yield server


def requested(nginx: Nginx) -> list[str]:
    """Upload an image; return the URLs of the image and its thumbnails, all missed."""
    answer = nginx.ask('POST', '/images', samples.photo(512, 256), **TOKEN)
    assert answer.status == 201
    jpegs = [answer.json['image'], *answer.json['thumbnails']]
    urls = [*jpegs, jpegs[1].replace('.jpeg', '.webp')]
    assert [nginx.get(url) for url in urls] == [(200, 'MISS')] * 4
    return urls


def stored(nginx: Nginx) -> list[str]:
    """Upload an image; return the URLs of the image and its thumbnails, all cached."""
    urls = requested(nginx)
    assert [nginx.get(url) for url in urls] == [(200, 'HIT')] * 4
    return urls


def test_requests(tmp_path: Path, service: Server) -> None:
    with Nginx(tmp_path, service) as nginx:
        image, thumbnail, *_ = stored(nginx)
        assert nginx.get(f'{image}?query') == (200, 'HIT')
        assert nginx.get(image, Range='bytes=0-9') == (206, 'HIT')
        answer = nginx.ask('HEAD', thumbnail)
        assert (answer.status, answer.headers['X-Cache-Status']) == (200, 'HIT')
        assert 'immutable' in answer.headers['Cache-Control']
        etag = answer.headers['ETag']
        assert nginx.get(thumbnail, if_none_match=etag) == (304, 'HIT')
        assert nginx.get('/images/') == (404, 'MISS')
        assert nginx.get('/images/') == (404, 'MISS')
        assert [each['image'] for each in nginx.ask('GET', '/images').json] == [image]
        assert nginx.ask('GET', '/').status == 200
        for path in ('/metrics', '/healthz/ready'):
            assert nginx.ask('GET', path).status == 404
        with contextlib.suppress(OSError):  # nginx need not read all of it
            too_large = nginx.ask('POST', '/images', bytes(34 * 2**20), **TOKEN)
            assert too_large.status == 413


def test_http_is_redirected(tmp_path: Path, service: Server) -> None:
    with Nginx(tmp_path, service) as nginx:
        connection = http.client.HTTPConnection(HOST, nginx.plain_port, timeout=60)
        with contextlib.closing(connection):
            connection.request('GET', '/images?limit=1')
            response = connection.getresponse()
            assert response.status == 308
            assert response.headers['Location'] == f'https://{HOST}/images?limit=1'


def test_events_are_not_buffered(tmp_path: Path, service: Server) -> None:
    with (
        Nginx(tmp_path, service) as nginx,
        contextlib.closing(nginx.connect()) as connection,
    ):
        connection.request('GET', '/events')
        events = connection.getresponse()
        stored(nginx)
        assert any(line == b'event: image\n' for line in events)


def test_deleted_image_is_gone_once_it_is_revalidated(
    tmp_path: Path, service: Server
) -> None:
    with Nginx(tmp_path, service, valid='1s') as nginx:
        urls = requested(nginx)
        until(lambda: nginx.get(urls[0]) == (200, 'REVALIDATED'))
        revalidation = rf'"GET {re.escape(urls[0])}" 304 '
        until(lambda: re.search(revalidation, service.log) is not None)
        assert nginx.ask('DELETE', urls[0], **TOKEN).status == 204
        until(lambda: {nginx.get(url)[0] for url in urls} == {404})


def takedown() -> str:
    """Return the command of docs/deploy.md that empties the cache of an image."""
    text = (ROOT / 'docs' / 'deploy.md').read_text('utf-8')
    (command,) = re.findall(r'^    (grep .*xargs.*)$', text, re.M)
    return str(command)


def test_takedown_works_at_once(tmp_path: Path, service: Server) -> None:
    with Nginx(tmp_path, service, valid='1h') as nginx:
        urls, others = stored(nginx), stored(nginx)
        assert nginx.ask('DELETE', urls[0], **TOKEN).status == 204
        assert [nginx.get(url) for url in urls] == [(200, 'HIT')] * 4
        script = takedown().replace(CACHE, str(nginx.cache))
        image_id = urls[0][len('/images/') : -len('.jpeg')]
        subprocess.run(['bash', '-euc', f'id={image_id}\n{script}'], check=True)
        assert [nginx.get(url) for url in urls] == [(404, 'MISS')] * 4
        assert [nginx.get(url) for url in others] == [(200, 'HIT')] * 4
