"""Images and thumbnails over HTTP; the one place that builds their URLs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import falcon
import falcon.asgi

from .config import Config
from .errors import ImageNotFound, InvalidRequest
from .imaging import transform
from .store import Image, Store
from .web.auth import authorize
from .web.conditional import Representation, select_range, set_partial
from .web.uploads import receive_upload

LIST_URI = '/images'

_LIST_KEYS = {
    falcon.MEDIA_JSON: LIST_URI,
    falcon.MEDIA_MSGPACK: f'{LIST_URI};msgpack',
}

_LIST_HEADERS: tuple[tuple[str, str], ...] = (
    ('cache-control', 'no-cache'),
    ('vary', 'Accept'),
    ('x-content-type-options', 'nosniff'),
)

_IMMUTABLE_HEADERS = (
    ('cache-control', 'public, max-age=31536000, immutable'),
    ('accept-ranges', 'bytes'),
    ('x-content-type-options', 'nosniff'),
    ('content-security-policy', "default-src 'none'"),
)


def image_uri(image: Image) -> str:
    """URL path of an image."""
    return f'{LIST_URI}/{image.image_id}.jpeg'


def thumbnail_uri(image: Image, size: tuple[int, int]) -> str:
    """URL path of an image's thumbnail of `size` pixels."""
    return f'/thumbnails/{image.image_id}/{size[0]}x{size[1]}.jpeg'


class Images:
    """The collection at `/images`, and each image below it."""

    def __init__(
        self, config: Config, store: Store, *, publish: Callable[[str, Any], None]
    ) -> None:
        self.config = config
        self._store = store
        self._publish = publish

    async def identify(
        self, req: falcon.asgi.Request, image_id: str | None = None
    ) -> Representation:
        """Say what a GET would answer; raises `ImageNotFound`, `InvalidRequest`."""
        if image_id is None:
            return await self._identify_list(req)
        return _identify_image(await self._store.get(image_id))

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """List a page of images, as JSON or MessagePack."""
        resp.content_type = resp.context.representation.content_type
        resp.media = [self._serialize(image) for image in req.context.page.images]

    on_head = on_get

    @falcon.before(authorize)
    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Take in an image of any accepted format."""
        async with self._store.upload() as upload:
            await receive_upload(req, upload, self.config.max_upload_size)
            image_id = str(self.config.uuid_generator())
            image = await self._store.save(image_id, upload)
        resp.status = falcon.HTTP_201
        resp.location = image_uri(image)
        resp.media = self._serialize(image)
        resp.context.stale = _LIST_KEYS.values()
        self._publish('image', resp.media)

    async def on_get_image(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, image_id: str
    ) -> None:
        """Send an image: whole where a cache may keep it, else in large blocks."""
        representation = resp.context.representation
        image = representation.image
        if image.length <= self.config.cache_body_size:
            resp.data = await self._store.read(image)
            return
        selected = select_range(req, representation, image.length)
        if selected is None:
            selected = range(image.length)
        else:
            set_partial(resp, selected, image.length)
        stream = self._store.stream(image, selected.start, selected.stop)
        resp.set_stream(stream, len(selected))

    async def on_head_image(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, image_id: str
    ) -> None:
        """Say what `on_get_image` would send, without reading it."""
        resp.content_length = resp.context.representation.image.length

    @falcon.before(authorize)
    async def on_delete_image(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, image_id: str
    ) -> None:
        """Remove an image, with its thumbnails and every cached copy."""
        if self.config.api_token is None:
            raise falcon.HTTPForbidden(
                description='Deleting images requires the setting api_token.'
            )
        image = await self._store.get(image_id)
        await self._store.delete(image)
        resp.status = falcon.HTTP_204
        thumbnails = self._serialize(image)['thumbnails']
        resp.context.stale = [image_uri(image), *thumbnails, *_LIST_KEYS.values()]
        self._publish('deleted', {'id': image_id})

    async def _identify_list(self, req: falcon.asgi.Request) -> Representation:
        limit = min(_limit(req, self.config.page_size), self.config.page_size)
        page = await self._store.list_images(limit, req.get_param('after'))
        req.context.page = page
        media_type = req.client_prefers(_LIST_KEYS) or falcon.MEDIA_JSON
        headers = _LIST_HEADERS
        if page.more:
            after = f'{LIST_URI}?limit={limit}&after={page.images[-1].image_id}'
            headers += (('link', f'<{after}>; rel="next"'),)
        shown = (page.state, page.images[:1], limit, page.more)
        state = (*shown, self.config.min_thumb_size, media_type)
        etag = hashlib.blake2b(repr(state).encode(), digest_size=12)
        key = None if req.query_string else _LIST_KEYS[media_type]
        headers += (('etag', f'"{etag.hexdigest()}"'),)
        return Representation(key, etag.hexdigest(), media_type, headers)

    def _serialize(self, image: Image) -> dict[str, Any]:
        """Make the JSON object of an image: exactly these five keys."""
        sizes = image.reductions(self.config.min_thumb_size)
        return {
            'id': image.image_id,
            'image': image_uri(image),
            'modified': falcon.dt_to_http(image.modified),
            'size': list(image.size),
            'thumbnails': [thumbnail_uri(image, size) for size in sizes],
        }


class Thumbnails:
    """An image's thumbnails, rendered on the fly."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._renderer = f'{config.jpeg_quality}-{transform.RENDERER}'

    async def identify(
        self, req: falcon.asgi.Request, image_id: str, size: tuple[int, int]
    ) -> Representation:
        """Say what a GET would answer; raises `ImageNotFound` for a size not listed."""
        image = await self._store.get(image_id)
        minimum = self._config.min_thumb_size
        representation = _identify_thumbnail(image, size, minimum, self._renderer)
        if representation is None:
            raise ImageNotFound('This image has no thumbnail of that size.')
        return representation

    async def on_get(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        image_id: str,
        size: tuple[int, int],
    ) -> None:
        """Render the thumbnail."""
        image = resp.context.representation.image
        resp.data = await self._store.make_thumbnail(image, size)

    async def on_head(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        image_id: str,
        size: tuple[int, int],
    ) -> None:
        """Say what a GET would, but for the length: nothing is rendered to know it."""
        # Never read: it keeps Falcon from announcing a length of 0.
        image = resp.context.representation.image
        resp.stream = self._store.stream(image, 0, 0)


@lru_cache(maxsize=4096)
def _identify_image(image: Image) -> Representation:
    etag = f'{image.modified_ns:x}-{image.length:x}'
    return _immutable(image_uri(image), etag, image)


@lru_cache(maxsize=4096)
def _identify_thumbnail(
    image: Image, size: tuple[int, int], minimum: int, renderer: str
) -> Representation | None:
    if size not in image.reductions(minimum):
        return None
    etag = f'{image.modified_ns:x}-{image.length:x}-{renderer}'
    return _immutable(thumbnail_uri(image, size), etag, image)


def _immutable(uri: str, etag: str, image: Image) -> Representation:
    modified = image.modified.replace(microsecond=0)
    headers = (
        ('etag', f'"{etag}"'),
        ('last-modified', falcon.dt_to_http(modified)),
        *_IMMUTABLE_HEADERS,
    )
    return Representation(uri, etag, falcon.MEDIA_JPEG, headers, image, modified)


def _limit(req: falcon.asgi.Request, default: int) -> int:
    value = req.get_param('limit', default=str(default))
    if not re.fullmatch('[0-9]{1,9}', value) or not int(value):
        raise InvalidRequest('The parameter limit must be from 1 to 999999999.')
    return int(value)
