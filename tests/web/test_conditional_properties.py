"""Combinations of conditional headers and ranges, compared with RFC 9110."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis
import pytest
from falcon.testing import Result
from hypothesis import strategies as st

from asgilook.config import Config

from ..conftest import no_redis
from .test_conditional import EARLIER, LATER, SOURCES, Site

# ETAG and DATE stand for those of the resource.
ETAGS = ['ETAG', 'W/ETAG', '"other"', 'W/"other"']
DATES = ['DATE', EARLIER, LATER, 'nonsense']

# What section 14.2 lets a server ignore.
IGNORED = ['bytes=', 'bytes=-', 'bytes=6-5', 'bytes=0-0,5-6', 'lines=0-1', 'bytes=a-b']


@dataclass(frozen=True)
class Position:
    """An offset from the start of a body, or from its end."""

    offset: int
    from_end: bool

    def of(self, length: int) -> int:
        return max(0, self.offset + (length if self.from_end else 0))


positions = st.builds(Position, st.integers(-3, 9), st.booleans())
etag_lists = st.just(['*']) | st.lists(st.sampled_from(ETAGS), min_size=1, max_size=3)


@dataclass(frozen=True)
class Request:
    """A request; None for the headers that it does not have.

    `selected` holds the first and the last position of a range, or only one of them;
    text is a range to ignore.
    """

    method: str
    resource: str
    if_match: list[str] | None
    if_none_match: list[str] | None
    if_unmodified_since: str | None
    if_modified_since: str | None
    if_range: str | None
    selected: tuple[Position | None, Position | None] | str | None

    def headers(self, length: int) -> dict[str, str]:
        values = {
            'If-Match': ', '.join(self.if_match or []) or None,
            'If-None-Match': ' ,'.join(self.if_none_match or []) or None,
            'If-Unmodified-Since': self.if_unmodified_since,
            'If-Modified-Since': self.if_modified_since,
            'If-Range': self.if_range,
            'Range': self.range_header(length),
        }
        return {name: value for name, value in values.items() if value is not None}

    def range_header(self, length: int) -> str | None:
        if not isinstance(self.selected, tuple):
            return self.selected
        ends = ('' if end is None else str(end.of(length)) for end in self.selected)
        return f'bytes={"-".join(ends)}'


requests = st.builds(
    Request,
    st.sampled_from(['GET', 'GET', 'HEAD']),
    st.sampled_from(['image', 'image', 'thumbnail', 'list']),
    st.none() | etag_lists,
    st.none() | etag_lists,
    st.none() | st.sampled_from(DATES),
    st.none() | st.sampled_from(DATES),
    st.none() | st.sampled_from(ETAGS + DATES),
    st.none()
    | st.sampled_from(IGNORED)
    | st.tuples(positions, st.none() | positions)
    | st.tuples(st.none(), positions),
)


def status_of(request: Request) -> int:
    """Evaluate the preconditions in the order of section 13.2.2."""
    has_date = request.resource != 'list'
    if request.if_match is not None:
        if not {'*', 'ETAG'} & set(request.if_match):
            return 412
    elif has_date and request.if_unmodified_since == EARLIER:
        return 412
    if request.if_none_match is not None:
        if {'*', 'ETAG', 'W/ETAG'} & set(request.if_none_match):
            return 304
    elif has_date and request.if_modified_since in ('DATE', LATER):
        return 304
    return 200


def range_of(request: Request, length: int) -> range | None:
    """Return the bytes that section 14 selects; None for the whole body."""
    if request.method != 'GET' or request.resource == 'list':
        return None
    if request.if_range not in (None, 'ETAG', 'DATE'):
        return None
    if not isinstance(request.selected, tuple):
        return None
    first, last = request.selected
    if first is None:
        assert last is not None
        return range(max(0, length - last.of(length)), length)
    start = first.of(length)
    if last is None:
        return range(start, length)
    stop = last.of(length) + 1
    return range(start, min(stop, length)) if start < stop else None


def check(result: Result, request: Request, whole: Result) -> None:
    """Compare a response with what the RFC asks for."""
    length = len(whole.content)
    status, selected = status_of(request), None
    if status == 200:
        selected = range_of(request, length)
        if selected is not None:
            status = 206 if selected else 416
    assert result.status_code == status
    if status == 416:
        assert result.headers['content-range'] == f'bytes */{length}'
    if status in (412, 416):
        return
    content = whole.content if status == 200 else b''
    if selected is not None:
        content = whole.content[selected.start : selected.stop]
        content_range = f'bytes {selected.start}-{selected.stop - 1}/{length}'
        assert result.headers['content-range'] == content_range
    assert result.content == (content if request.method == 'GET' else b'')
    if status != 304:
        # A HEAD renders nothing, and so may not know the length.
        is_unknown = request.method == 'HEAD' and 'content-length' not in result.headers
        assert is_unknown or result.headers['content-length'] == str(len(content))
    for header in ('etag', 'last-modified', 'cache-control', 'vary'):
        assert result.headers.get(header) == whole.headers.get(header)


@pytest.fixture(scope='module', params=SOURCES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    config = Config({})
    config.storage_path = str(tmp_path_factory.mktemp('images'))
    config.create_redis_pool = no_redis
    vars(config).update(SOURCES[request.param])
    return Site(config)


@hypothesis.given(sent=requests)
@hypothesis.settings(max_examples=60)
def test_combination(site: Site, sent: Request) -> None:
    whole = site.whole[sent.resource]
    headers = sent.headers(len(whole.content))
    check(site.send(sent.method, sent.resource, headers), sent, whole)
