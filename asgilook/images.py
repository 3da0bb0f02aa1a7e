"""The image resources: `/images`, `/images/ID.jpeg` and `/thumbnails/ID/WxH.jpeg`."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import falcon
import falcon.asgi

from .config import Config
from .errors import ImageExists, ImageNotFound, InvalidRequest
from .imaging.transform import Format
from .models import Image, Size
from .storage.stream import FileStream
from .store import Store
from .web.auth import authorize
from .web.conditional import (
    preferred_type,
    read_consistently,
    require_preconditions,
    select_range,
    set_partial,
)
from .web.idempotency import KeyedLocks, keyed_id
from .web.record import Representation, image_of, record_of, representation_of
from .web.representations import (
    LIST_KEYS,
    LIST_TYPES,
    Order,
    Representations,
    image_uri,
)
from .web.uploads import discard_body, receive_upload

_ALL_LIST_KEYS = [key for keys in LIST_KEYS.values() for key in keys.values()]


class Images:
    """The collection at `/images`, and each image below it."""

    def __init__(
        self, config: Config, store: Store, *, publish: Callable[[str, Any], None]
    ) -> None:
        self.config = config
        self._store = store
        self._publish = publish
        self._keyed_uploads = KeyedLocks()
        self._representations = Representations(config, store)

    async def identify(
        self, req: falcon.asgi.Request, image_id: str | None = None
    ) -> Representation:
        """Return what a GET would answer.

        Raises `ImageNotFound`, or `InvalidRequest` for a wrong parameter of the list.
        """
        if image_id is None:
            return await self._identify_list(req)
        return self._representations.image(await self._store.get(image_id))

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Send a page of images, as JSON or MessagePack."""
        representation = representation_of(req)
        resp.content_type = representation.content_type
        serialize = self._representations.serialize
        resp.media = [serialize(image) for image in representation.images]

    on_head = on_get

    @falcon.before(authorize)
    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response
    ) -> None:
        """Store an image of any accepted format, or recognize a retry."""
        image_id = keyed_id(req)
        if image_id is None:
            image = await self._receive(req, str(self.config.uuid_generator()))
        else:
            async with self._keyed_uploads.hold(image_id):
                found = await self._find(req, image_id)
                image = found or await self._receive(req, image_id, once=True)
        resp.status = falcon.HTTP_201
        resp.location = image_uri(image)
        resp.media = self._representations.serialize(image)
        resp.context.stale_keys = _ALL_LIST_KEYS

    async def on_get_image(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, image_id: str
    ) -> None:
        """Send an image: whole if it may be cached, otherwise in large blocks."""
        identify = partial(self.identify, req, image_id)
        if image_of(req).length <= self.config.cache_body_size:
            resp.data = await read_consistently(
                req, read=self._store.read, identify=identify
            )
            return
        # NOTE(errors): opened before the head is sent, so that a failure has a status.
        selected, stream = await read_consistently(
            req, read=partial(self._open, req), identify=identify
        )
        length = image_of(req).length
        if selected is not None:
            set_partial(resp, selected, length)
        resp.set_stream(stream, len(selected or range(length)))

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
                description='Deleting images requires the setting ASGI_LOOK_API_TOKEN.'
            )
        image = await self._store.get(image_id)
        require_preconditions(req, self._representations.image(image))
        await self._store.delete(image)
        resp.status = falcon.HTTP_204
        keys = self._representations.cache_keys(image)
        resp.context.stale_keys = [*keys, *_ALL_LIST_KEYS]
        self._publish('deleted', {'id': image_id})

    async def _receive(
        self, req: falcon.asgi.Request, image_id: str, *, once: bool = False
    ) -> Image:
        async with self._store.upload() as upload:
            await receive_upload(req, upload, self.config.max_upload_size)
            try:
                image = await self._store.save(image_id, upload, once=once)
            except ImageExists:
                if not once:
                    raise
                return await self._store.get(image_id)  # of another worker
        self._publish('image', self._representations.serialize(image))
        return image

    async def _find(self, req: falcon.asgi.Request, image_id: str) -> Image | None:
        """Return the image of an earlier upload, once the client has sent its body."""
        with contextlib.suppress(ImageNotFound):
            image = await self._store.get(image_id)
            await discard_body(req)
            return image
        return None

    async def _open(
        self, req: falcon.asgi.Request, image: Image
    ) -> tuple[range | None, FileStream]:
        """Return the requested range, None for all, and a stream of it."""
        selected = select_range(req, representation_of(req), image.length)
        part = selected or range(image.length)
        return selected, await self._store.open_stream(image, part.start, part.stop)

    async def _identify_list(self, req: falcon.asgi.Request) -> Representation:
        limit = min(_limit(req, self.config.page_size), self.config.page_size)
        order = _order(req)
        page = await self._store.list_images(
            limit, req.get_param('after'), newest=order == 'newest'
        )
        return self._representations.page(
            page,
            target=record_of(req).target,
            limit=limit,
            order=order,
            media_type=preferred_type(LIST_TYPES, req.accept),
        )


class Thumbnails:
    """An image's thumbnails in one format, rendered on the fly."""

    def __init__(
        self, config: Config, store: Store, *, format_: Format = 'jpeg'
    ) -> None:
        self._store = store
        self._format = format_
        self._min_thumb_size = config.min_thumb_size
        self._representations = Representations(config, store)

    async def identify(
        self, req: falcon.asgi.Request, image_id: str, size: Size
    ) -> Representation:
        """Return what a GET would answer.

        Raises `ImageNotFound` for a size that the image does not have.
        """
        image = await self._store.get(image_id)
        representation = self._representations.thumbnail(image, size, self._format)
        if representation is None:
            sizes = self._representations.sizes(image, self._format)
            listed = ', '.join(f'{width}x{height}' for width, height in sizes)
            raise ImageNotFound(
                f'This image has no thumbnail of that size; it has {listed or "none"}.'
            )
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
            read=lambda image: self._store.make_thumbnail(image, size, self._format),
            identify=partial(self.identify, req, image_id, size),
        )

    async def on_head(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        image_id: str,
        size: Size,
    ) -> None:
        """Send the headers of `on_get` except the length, which requires rendering."""
        # Never read: it keeps Falcon from announcing a length of 0.
        resp.stream = io.BytesIO()  # type: ignore[assignment]


def _limit(req: falcon.asgi.Request, default: int) -> int:
    value = req.get_param('limit', default=str(default))
    if not re.fullmatch('[0-9]{1,9}', value) or not int(value):
        raise InvalidRequest('The parameter limit must be from 1 to 999999999.')
    return int(value)


def _order(req: falcon.asgi.Request) -> Order:
    values = req.get_param_as_list('order') or ['oldest']
    if values not in (['oldest'], ['newest']):
        raise InvalidRequest(
            'The parameter order must be newest or oldest, and given once.'
        )
    return cast(Order, values[0])
