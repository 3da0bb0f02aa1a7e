from __future__ import annotations

from functools import partial
from typing import Any

import falcon.testing
import pytest
from falcon.testing import ASGIConductor, Result, TestClient

from asgilook.app import create_app
from asgilook.config import Config
from asgilook.web.conditional import MAX_ATTEMPTS, read_consistently
from asgilook.web.record import Representation

from .. import samples
from ..conftest import no_redis, problem

EARLIER = 'Mon, 01 Jan 2001 00:00:00 GMT'
LATER = 'Fri, 01 Jan 2100 00:00:00 GMT'
# Both obsolete forms of RFC 9110, section 5.6.7.
LATER_RFC850 = 'Friday, 01-Jan-60 00:00:00 GMT'
LATER_ASCTIME = 'Fri Jan  1 00:00:00 2100'


class Site:
    """A service with one image; its URLs, and their answers without preconditions."""

    def __init__(self, config: Config) -> None:
        self.client = TestClient(create_app(config))
        posted = self.client.simulate_post('/images', body=samples.photo(512, 256))
        self.uris = {
            'list': '/images',
            'image': posted.json['image'],
            'thumbnail': posted.json['thumbnails'][0],
        }
        self.whole = {
            name: self.client.simulate_get(uri) for name, uri in self.uris.items()
        }

    def get(self, name: str, headers: dict[str, str]) -> Result:
        """Send a GET in which ETAG and DATE stand for those of the resource."""
        return self.send('GET', name, headers)

    def send(self, method: str, name: str, headers: dict[str, str]) -> Result:
        """Send such headers with any method."""
        whole = self.whole[name].headers
        etag, date = whole['etag'], whole.get('last-modified', '')
        return self.client.simulate_request(
            method,
            self.uris[name],
            headers={
                key: value.replace('ETAG', etag).replace('DATE', date)
                for key, value in headers.items()
            },
        )


# Where the body of an image comes from: memory, the disk, the disk in blocks.
SOURCES = {
    'cached': {},
    'rendered': {'cache_memory': 0},
    'streamed': {'cache_body_size': 1000},
}


@pytest.fixture(scope='module')
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    """Return a service for each of `SOURCES`."""
    sites = {}
    for name, settings in SOURCES.items():
        config = Config({})
        config.storage_path = str(tmp_path_factory.mktemp(name))
        config.create_redis_pool = no_redis
        vars(config).update(settings)
        sites[name] = Site(config)
    return sites


@pytest.fixture
def site(sites: dict[str, Site]) -> Site:
    return sites['cached']


@pytest.fixture(params=SOURCES)
def source(sites: dict[str, Site], request: pytest.FixtureRequest) -> Site:
    return sites[request.param]


PRECONDITIONS: list[tuple[int, dict[str, str]]] = [
    (200, {}),
    # If-None-Match compares weakly.
    (304, {'If-None-Match': 'ETAG'}),
    (304, {'If-None-Match': 'W/ETAG'}),
    (304, {'If-None-Match': '*'}),
    (304, {'If-None-Match': '"other", ETAG'}),
    (304, {'If-None-Match': 'W/"other",ETAG , "more"'}),
    (200, {'If-None-Match': '"other"'}),
    (200, {'If-None-Match': '"other", W/"more"'}),
    (200, {'If-None-Match': '""'}),
    (200, {'If-None-Match': ''}),
    (200, {'If-None-Match': 'nonsense'}),
    # If-Match compares strongly.
    (200, {'If-Match': 'ETAG'}),
    (200, {'If-Match': '*'}),
    (200, {'If-Match': '"other", ETAG'}),
    (412, {'If-Match': 'W/ETAG'}),
    (412, {'If-Match': '"other"'}),
    # RFC 9110, section 13.2.2: which goes before which.
    (304, {'If-Match': 'ETAG', 'If-None-Match': 'ETAG'}),
    (412, {'If-Match': '"other"', 'If-None-Match': 'ETAG'}),
    (412, {'If-Match': '"other"', 'If-None-Match': '"other"'}),
    (200, {'If-Match': 'ETAG', 'If-Unmodified-Since': EARLIER}),
    (412, {'If-Match': '"other"', 'If-Unmodified-Since': LATER}),
    (200, {'If-None-Match': '"other"', 'If-Modified-Since': LATER}),
    (304, {'If-None-Match': 'ETAG', 'If-Modified-Since': EARLIER}),
]

DATES: list[tuple[int, dict[str, str]]] = [
    (304, {'If-Modified-Since': 'DATE'}),
    (304, {'If-Modified-Since': LATER}),
    (304, {'If-Modified-Since': LATER_RFC850}),
    (304, {'If-Modified-Since': LATER_ASCTIME}),
    (200, {'If-Modified-Since': EARLIER}),
    (200, {'If-Unmodified-Since': 'DATE'}),
    (200, {'If-Unmodified-Since': LATER}),
    (412, {'If-Unmodified-Since': EARLIER}),
    (412, {'If-Unmodified-Since': EARLIER, 'If-None-Match': 'ETAG'}),
    (304, {'If-Unmodified-Since': LATER, 'If-Modified-Since': LATER}),
    # An invalid date is ignored.
    *(
        (200, {name: value})
        for name in ('If-Modified-Since', 'If-Unmodified-Since')
        for value in (
            '',
            'yesterday',
            '0',
            '2100-01-01',
            'Fri, 32 Jan 2100 00:00:00 GMT',
        )
    ),
]


def check(site: Site, name: str, status: int, headers: dict[str, str]) -> None:
    whole, result = site.whole[name], site.get(name, headers)
    if status == 412:
        problem(result, 412)
        return
    assert result.status_code == status
    assert result.content == (whole.content if status == 200 else b'')
    for header in ('etag', 'last-modified', 'cache-control', 'vary'):
        assert result.headers.get(header) == whole.headers.get(header)


@pytest.mark.parametrize(('status', 'headers'), PRECONDITIONS)
@pytest.mark.parametrize('name', ['list', 'image'])
def test_precondition(
    site: Site, name: str, status: int, headers: dict[str, str]
) -> None:
    check(site, name, status, headers)


@pytest.mark.parametrize(('status', 'headers'), DATES)
def test_precondition_by_date(site: Site, status: int, headers: dict[str, str]) -> None:
    check(site, 'image', status, headers)


@pytest.mark.parametrize('status', [200, 304, 412])
def test_precondition_on_thumbnail(site: Site, status: int) -> None:
    headers = {304: {'If-None-Match': 'ETAG'}, 412: {'If-Match': '"other"'}}
    check(site, 'thumbnail', status, headers.get(status, {}))


@pytest.mark.parametrize('name', ['If-Modified-Since', 'If-Unmodified-Since'])
@pytest.mark.parametrize('date', [EARLIER, LATER])
def test_list_has_no_date(site: Site, name: str, date: str) -> None:
    check(site, 'list', 200, {name: date})


def test_not_modified_has_no_body_headers(site: Site) -> None:
    for name in site.uris:
        result = site.get(name, {'If-None-Match': 'ETAG', 'Range': 'bytes=0-1'})
        assert result.status_code == 304
        assert not {'content-type', 'content-length', 'content-range'} & set(
            result.headers
        )


def test_precondition_on_head(site: Site) -> None:
    for name, uri in site.uris.items():
        for status, header in ((304, 'If-None-Match'), (200, 'If-Match')):
            headers = {header: site.whole[name].headers['etag']}
            result = site.client.simulate_head(uri, headers=headers)
            assert (result.status_code, result.content) == (status, b'')


def test_precondition_of_what_is_missing(site: Site) -> None:
    uri = '/images/00000000-0000-4000-8000-000000000000.jpeg'
    for name in ('If-Match', 'If-None-Match'):
        problem(site.client.simulate_get(uri, headers={name: '*'}), 404)


# Ranges. Those of the table are slices of a body of LENGTH bytes; None is all of it.

LENGTH = 14000

RANGES: list[tuple[str, slice | None]] = [
    ('bytes=0-0', slice(0, 1)),
    ('bytes=0-99', slice(0, 100)),
    ('bytes=100-199', slice(100, 200)),
    ('bytes=007-008', slice(7, 9)),
    ('bytes=13999-', slice(13999, None)),
    ('bytes=1-', slice(1, None)),
    ('bytes=0-', slice(0, None)),
    ('bytes=-1', slice(-1, None)),
    ('bytes=-100', slice(-100, None)),
    ('bytes=-99999999', slice(0, None)),
    ('bytes=5-99999999', slice(5, None)),
    ('BYTES=0-1', slice(0, 2)),
    # Several, another unit, malformed: ignored (RFC 9110, section 14.2).
    ('bytes=0-0,5-6', None),
    ('bytes=0-0, -1', None),
    ('lines=0-1', None),
    ('bytes', None),
    ('bytes=', None),
    ('bytes=-', None),
    ('bytes=5', None),
    ('bytes=6-5', None),
    ('bytes=a-b', None),
    ('bytes=0x0-1', None),
    ('bytes=1.5-2', None),
    ('bytes=+1-2', None),
    ('bytes=--1', None),
    ('bytes=0-1-2', None),
    ('bytes=\u0661-\u0662', None),
    ('bytes=' + '9' * 5000 + '-' + '1' * 5000, None),
    ('', None),
]


@pytest.fixture
def length(source: Site) -> int:
    return len(source.whole['image'].content)


@pytest.mark.parametrize(('value', 'selected'), RANGES)
def test_range(source: Site, length: int, value: str, selected: slice | None) -> None:
    assert length > LENGTH
    whole = source.whole['image']
    result = source.get('image', {'Range': value.encode().decode('latin-1')})
    if selected is None:
        assert result.status_code == 200
        assert result.content == whole.content
        assert 'content-range' not in result.headers
        return
    start, stop, _ = selected.indices(length)
    assert result.status_code == 206
    assert result.content == whole.content[start:stop]
    assert result.headers['content-range'] == f'bytes {start}-{stop - 1}/{length}'
    assert result.headers['content-length'] == str(stop - start)
    for header in ('etag', 'last-modified', 'cache-control', 'content-type'):
        assert result.headers[header] == whole.headers[header]


def test_range_around_the_end(source: Site, length: int) -> None:
    content = source.whole['image'].content
    for value, start in (
        (f'bytes={length - 1}-', length - 1),
        (f'bytes={length - 2}-{length - 1}', length - 2),
        (f'bytes={length - 2}-{length}', length - 2),
        (f'bytes=-{length}', 0),
        (f'bytes=-{length + 1}', 0),
    ):
        result = source.get('image', {'Range': value})
        assert (result.status_code, result.content) == (206, content[start:])
    for value in (f'bytes={length}-', f'bytes={length}-{length}', 'bytes=-0'):
        result = source.get('image', {'Range': value})
        problem(result, 416)
        assert result.headers['content-range'] == f'bytes */{length}'
    result = source.get('image', {'Range': 'bytes=' + '9' * 18 + '-'})
    problem(result, 416)
    assert source.get('image', {}).content == content


@pytest.mark.parametrize(
    ('condition', 'status'),
    [
        ('ETAG', 206),
        ('DATE', 206),
        ('W/ETAG', 200),
        ('"other"', 200),
        (EARLIER, 200),
        (LATER, 200),
        ('nonsense', 200),
        ('*', 200),
    ],
)
def test_range_if(source: Site, length: int, condition: str, status: int) -> None:
    content = source.whole['image'].content
    result = source.get('image', {'Range': 'bytes=5-9', 'If-Range': condition})
    assert result.status_code == status
    assert result.content == (content[5:10] if status == 206 else content)
    # A range that is out of date is never out of bounds.
    if status == 200:
        headers = {'Range': f'bytes={length}-', 'If-Range': condition}
        assert source.get('image', headers).content == content


def test_range_of_thumbnail(source: Site) -> None:
    content = source.whole['thumbnail'].content
    result = source.get('thumbnail', {'Range': 'bytes=-9'})
    assert (result.status_code, result.content) == (206, content[-9:])
    problem(source.get('thumbnail', {'Range': f'bytes={len(content)}-'}), 416)


def test_range_of_list_is_ignored(source: Site) -> None:
    result = source.get('list', {'Range': 'bytes=0-1'})
    assert (result.status_code, result.content) == (200, source.whole['list'].content)


def test_range_after_failed_precondition(source: Site) -> None:
    headers = {'Range': 'bytes=0-1', 'If-Match': '"other"'}
    problem(source.get('image', headers), 412)


# What the server hands in


async def test_server_without_raw_path(config: Config, photo: bytes) -> None:
    """ASGI leaves `raw_path` to the server."""
    async with ASGIConductor(create_app(config)) as conductor:
        images = [
            (await conductor.simulate_post('/images', body=body)).json
            for body in (photo, samples.photo(128, 128))
        ]
        uris = [
            uri for image in images for uri in (image['image'], *image['thumbnails'])
        ]
        expected = [(await conductor.simulate_get(uri)).content for uri in uris]
        for uri, content in zip(uris, expected, strict=True):
            scope = falcon.testing.create_scope(path=uri)
            del scope['raw_path']
            sent = falcon.testing.ASGIResponseEventCollector()
            receive = falcon.testing.ASGIRequestEventEmitter()
            await conductor.app(scope, receive, sent)
            assert b''.join(sent.body_chunks) == content


# Resources that identify what they would answer


class Misnamed:
    """A resource whose `identify` does not take the fields of its URL."""

    async def identify(self, req: Any, identifier: str) -> Any:
        """Never called."""

    async def on_get(self, req: Any, resp: Any, image_id: str) -> None:
        """Never called."""


def test_identify_is_checked_against_the_url_template(config: Config) -> None:
    app = create_app(config)
    with pytest.raises(TypeError, match='argument'):
        app.add_route('/misnamed/{image_id:uuid}', Misnamed())
    app.add_route('/named/{identifier}', Misnamed())


class Replaced:
    """A resource whose image is replaced a number of times while it is read."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.reads = 0

    async def identify(self, req: Any) -> Representation:
        etag = str(self.times)
        return Representation(
            None, etag, 'image/jpeg', (('etag', f'"{etag}"'),), self.is_current
        )

    async def is_current(self) -> bool:
        self.times -= 1
        return self.times < 0

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.data = await read_consistently(
            req, read=self.read, identify=partial(self.identify, req)
        )

    async def read(self, image: Any) -> bytes:
        self.reads += 1
        return str(self.times).encode()


@pytest.mark.parametrize('times', [0, 1, MAX_ATTEMPTS - 1])
def test_replaced_image_is_read_again(config: Config, times: int) -> None:
    app, resource = create_app(config), Replaced(times)
    app.add_route('/replaced', resource)
    result = TestClient(app).simulate_get('/replaced')
    assert (result.headers['etag'], result.text) == ('"0"', '0')
    assert resource.reads == times + 1


def test_image_that_is_always_replaced_is_unavailable(config: Config) -> None:
    app, resource = create_app(config), Replaced(1000)
    app.add_route('/replaced', resource)
    problem(TestClient(app).simulate_get('/replaced'), 503)
    assert resource.reads == MAX_ATTEMPTS


def test_replaced_image_does_not_match(config: Config) -> None:
    app = create_app(config)
    app.add_route('/replaced', Replaced(1))
    result = TestClient(app).simulate_get('/replaced', headers={'If-Match': '"1"'})
    problem(result, 412)
