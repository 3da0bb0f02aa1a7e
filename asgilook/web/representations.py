"""URLs and representations of images, thumbnails and the list."""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial
from typing import Any, Literal

import falcon

from ..config import Config
from ..imaging.codec import MAX_WEBP_SIDE
from ..imaging.transform import RENDERER, WEBP_RENDERER, Format
from ..models import Image, Page, Size
from ..store import Store
from .cors import common_headers
from .record import Representation

LIST_URI = '/images'

Order = Literal['oldest', 'newest']

# Cache keys of the lists that are cached, by URL and media type; the first type is the
# default.
LIST_KEYS = {
    uri: {falcon.MEDIA_JSON: uri, falcon.MEDIA_MSGPACK: f'{uri};msgpack'}
    for uri in (LIST_URI, f'{LIST_URI}?order=newest')
}
LIST_TYPES = (falcon.MEDIA_JSON, falcon.MEDIA_MSGPACK)

_LIST_HEADERS = (
    ('cache-control', 'no-cache'),
    ('x-content-type-options', 'nosniff'),
)

_IMMUTABLE_HEADERS = (
    ('cache-control', 'public, max-age=31536000, immutable'),
    ('accept-ranges', 'bytes'),
    ('x-content-type-options', 'nosniff'),
    ('content-security-policy', "default-src 'none'"),
)

_MAX_REPRESENTATIONS = 4096


def image_uri(image: Image) -> str:
    """Return the URL path of an image."""
    return f'{LIST_URI}/{image.image_id}.jpeg'


def thumbnail_uri(image: Image, size: Size, format_: Format = 'jpeg') -> str:
    """Return the URL path of an image's thumbnail of `size` pixels."""
    return f'/thumbnails/{image.image_id}/{size[0]}x{size[1]}.{format_}'


class Representations:
    """Builds representations, which the image resources identify."""

    def __init__(self, config: Config, store: Store) -> None:
        self._min_thumb_size = config.min_thumb_size
        self._store = store
        self._renderers: dict[Format, str] = {
            'jpeg': f'{config.jpeg_quality}-{RENDERER}',
            'webp': f'{config.jpeg_quality}-{WEBP_RENDERER}',
        }
        self._list_headers = (*_LIST_HEADERS, *common_headers(config, 'Accept'))
        self._image_headers = (*_IMMUTABLE_HEADERS, *common_headers(config))
        # PERF: formatting the headers takes longer than the rest of a cache look-up.
        self.image = lru_cache(_MAX_REPRESENTATIONS)(self._image)
        self.thumbnail = lru_cache(_MAX_REPRESENTATIONS)(self._thumbnail)

    def serialize(self, image: Image) -> dict[str, Any]:
        """Return the JSON object of an image, with exactly five members."""
        sizes = image.reductions(self._min_thumb_size)
        return {
            'id': image.image_id,
            'image': image_uri(image),
            'modified': falcon.dt_to_http(image.modified),
            'size': list(image.size),
            'thumbnails': [thumbnail_uri(image, size) for size in sizes],
        }

    def cache_keys(self, image: Image) -> list[str]:
        """Return the cache keys of an image and its thumbnails."""
        thumbnails = [
            thumbnail_uri(image, size, format_)
            for format_ in self._renderers
            for size in self.sizes(image, format_)
        ]
        return [image_uri(image), *thumbnails]

    def sizes(self, image: Image, format_: Format) -> list[Size]:
        """Return the sizes of an image's thumbnails: those that the format can have."""
        sizes = image.reductions(self._min_thumb_size)
        if format_ == 'webp':
            return [size for size in sizes if max(size) <= MAX_WEBP_SIDE]
        return sizes

    def page(
        self,
        page: Page,
        *,
        target: str | None,
        limit: int,
        order: Order,
        media_type: str,
    ) -> Representation:
        """Represent a page of the list.

        Args:
            page: the images.
            target: URL of the request; only those in `LIST_KEYS` are cached.
            limit: requested number of images.
            order: order of the list.
            media_type: one of `LIST_TYPES`.
        """
        shown = (page.state, page.images[:1], limit, page.more, order)
        state = (*shown, self._min_thumb_size, media_type)
        etag = hashlib.blake2b(repr(state).encode(), digest_size=12).hexdigest()
        headers = self._list_headers
        if page.more:
            query = 'order=newest&' if order == 'newest' else ''
            query += f'limit={limit}&after={page.images[-1].image_id}'
            headers += (('link', f'<{LIST_URI}?{query}>; rel="next"'),)
        return Representation(
            key=LIST_KEYS.get(target or '', {}).get(media_type),
            etag=etag,
            content_type=media_type,
            headers=(*headers, ('etag', f'"{etag}"')),
            is_current=partial(self._is_list_current, page.state),
            images=page.images,
        )

    async def _is_list_current(self, state: str) -> bool:
        return await self._store.list_version() == state

    def _image(self, image: Image) -> Representation:
        """Represent a stored image."""
        etag = f'{image.modified_ns:x}-{image.length:x}'
        return self._immutable(image, image_uri(image), etag, falcon.MEDIA_JPEG)

    def _thumbnail(
        self, image: Image, size: Size, format_: Format
    ) -> Representation | None:
        """Represent a thumbnail; None if the image has none of this size."""
        if size not in self.sizes(image, format_):
            return None
        renderer = self._renderers[format_]
        etag = f'{image.modified_ns:x}-{image.length:x}-{renderer}'
        uri = thumbnail_uri(image, size, format_)
        return self._immutable(image, uri, etag, f'image/{format_}')

    def _immutable(
        self, image: Image, uri: str, etag: str, media_type: str
    ) -> Representation:
        modified = image.modified.replace(microsecond=0)
        headers = (
            ('etag', f'"{etag}"'),
            ('last-modified', falcon.dt_to_http(modified)),
            # Tags to purge a CDN by: Cloudflare's and Akamai's, and RFC 9875.
            ('cache-tag', image.image_id),
            ('cache-groups', f'"{image.image_id}"'),
            *self._image_headers,
        )
        return Representation(
            key=uri,
            etag=etag,
            content_type=media_type,
            headers=headers,
            is_current=partial(self._store.is_current, image),
            image=image,
            modified=modified,
        )
