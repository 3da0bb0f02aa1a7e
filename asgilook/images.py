"""The image resources `/images` and `/thumbnails`; the only module that builds URLs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import falcon
import falcon.asgi

from .config import Config
from .errors import ImageNotFound, InvalidRequest
from .imaging import transform
from .models import Image, Size
from .store import Store
from .web.auth import authorize
from .web.conditional import (
    preferred_type,
    read_consistently,
    select_range,
    set_partial,
)
from .web.cors import vary
from .web.record import Representation, image_of, representation_of
from .web.uploads import receive_upload

LIST_URI = '/images'

# Cache key of the list in each of its media types; the first is the default.
LIST_KEYS = {
    falcon.MEDIA_JSON: LIST_URI,
    falcon.MEDIA_MSGPACK: f'{LIST_URI};msgpack',
}

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


def thumbnail_uri(image: Image, size: Size) -> str:
    """Return the URL path of an image's thumbnail of `size` pixels."""
    return f'/thumbnails/{image.image_id}/{size[0]}x{size[1]}.jpeg'


class Images:
    """The collection at `/images`, and each image below it."""

    def __init__(
        self, config: Config, store: Store, *, publish: Callable[[str, Any], None]
    ) -> None:
        self.config = config
        self._store = store
        self._publish = publish
        self._represent = lru_cache(_MAX_REPRESENTATIONS)(self._represent_image)

    async def identify(
        self, req: falcon.asgi.Request, image_id: str | None = None
    ) -> Representation:
        """Return what a GET would answer.

        Raises `ImageNotFound`, or `InvalidRequest` for a wrong parameter of the list.
        """
        if image_id is None:
            return await self._identify_list(req)
        return self._represent(await self._store.get(image_id))

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send a page of images, as JSON or MessagePack."""
        representation = representation_of(req)
        resp.content_type = representation.content_type
        resp.media = [self._serialize(image) for image in representation.images]

    on_head = on_get

    @falcon.before(authorize)
    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Store an image of any accepted format."""
        async with self._store.upload() as upload:
            await receive_upload(req, upload, self.config.max_upload_size)
            image_id = str(self.config.uuid_generator())
            image = await self._store.save(image_id, upload)
        resp.status = falcon.HTTP_201
        resp.location = image_uri(image)
        resp.media = self._serialize(image)
        resp.context.stale_keys = tuple(LIST_KEYS.values())
        self._publish('image', resp.media)

    async def on_get_image(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, image_id: str
    ) -> None:
        """Send an image: whole if a cache may keep it, else in large blocks."""
        image = image_of(req)
        if image.length <= self.config.cache_body_size:
            resp.data = await read_consistently(
                req,
                read=self._store.read,
                identify=partial(self.identify, req, image_id),
            )
            return
        selected = select_range(req, representation_of(req), image.length)
        if selected is None:
            selected = range(image.length)
        else:
            set_partial(resp, selected, image.length)
        stream = self._store.stream(image, selected.start, selected.stop)
        resp.set_stream(stream, len(selected))

    async def on_head_image(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, image_id: str
    ) -> None:
        """Send the headers of `on_get_image`, without reading the image."""
        resp.content_length = image_of(req).length

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
        resp.context.stale_keys = (image_uri(image), *thumbnails, *LIST_KEYS.values())
        self._publish('deleted', {'id': image_id})

    async def _identify_list(self, req: falcon.asgi.Request) -> Representation:
        limit = min(_limit(req, self.config.page_size), self.config.page_size)
        page = await self._store.list_images(limit, req.get_param('after'))
        media_type = preferred_type(tuple(LIST_KEYS), req.accept)
        headers = (*_LIST_HEADERS, *vary(self.config, 'Accept'))
        if page.more:
            after = f'{LIST_URI}?limit={limit}&after={page.images[-1].image_id}'
            headers += (('link', f'<{after}>; rel="next"'),)
        shown = (page.state, page.images[:1], limit, page.more)
        state = (*shown, self.config.min_thumb_size, media_type)
        etag = hashlib.blake2b(repr(state).encode(), digest_size=12).hexdigest()
        return Representation(
            key=None if req.query_string else LIST_KEYS[media_type],
            etag=etag,
            content_type=media_type,
            headers=(*headers, ('etag', f'"{etag}"')),
            is_current=partial(self._is_list_current, page.state),
            images=page.images,
        )

    async def _is_list_current(self, state: str) -> bool:
        return await self._store.list_version() == state

    def _represent_image(self, image: Image) -> Representation:
        etag = f'{image.modified_ns:x}-{image.length:x}'
        return _immutable(self.config, self._store, image_uri(image), etag, image)

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
        self._represent = lru_cache(_MAX_REPRESENTATIONS)(self._represent_thumbnail)

    async def identify(
        self, req: falcon.asgi.Request, image_id: str, size: Size
    ) -> Representation:
        """Return what a GET would answer.

        Raises `ImageNotFound` for a size that the image's JSON does not list.
        """
        representation = self._represent(await self._store.get(image_id), size)
        if representation is None:
            raise ImageNotFound('This image has no thumbnail of that size.')
        return representation

    async def on_get(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        image_id: str,
        size: Size,
    ) -> None:
        """Render the thumbnail."""
        resp.data = await read_consistently(
            req,
            read=lambda image: self._store.make_thumbnail(image, size),
            identify=partial(self.identify, req, image_id, size),
        )

    async def on_head(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        image_id: str,
        size: Size,
    ) -> None:
        """Send the headers of `on_get` but the length, which only rendering shows."""
        # Never read: it keeps Falcon from announcing a length of 0.
        resp.stream = self._store.stream(image_of(req), 0, 0)

    def _represent_thumbnail(self, image: Image, size: Size) -> Representation | None:
        if size not in image.reductions(self._config.min_thumb_size):
            return None
        etag = f'{image.modified_ns:x}-{image.length:x}-{self._renderer}'
        uri = thumbnail_uri(image, size)
        return _immutable(self._config, self._store, uri, etag, image)


def _immutable(
    config: Config, store: Store, uri: str, etag: str, image: Image
) -> Representation:
    modified = image.modified.replace(microsecond=0)
    headers = (
        ('etag', f'"{etag}"'),
        ('last-modified', falcon.dt_to_http(modified)),
        *_IMMUTABLE_HEADERS,
        *vary(config),
    )
    return Representation(
        key=uri,
        etag=etag,
        content_type=falcon.MEDIA_JPEG,
        headers=headers,
        is_current=partial(store.is_current, image),
        image=image,
        modified=modified,
    )


def _limit(req: falcon.asgi.Request, default: int) -> int:
    value = req.get_param('limit', default=str(default))
    if not re.fullmatch('[0-9]{1,9}', value) or not int(value):
        raise InvalidRequest('The parameter limit must be from 1 to 999999999.')
    return int(value)
