"""The tutorial's image processing and service, after its text."""

from __future__ import annotations

import asyncio
import io
import os
import uuid
from typing import Any

import aiofiles
import falcon.asgi
from PIL import Image

Size = tuple[int, int]


def load(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def convert(image: Image.Image) -> bytes:
    converted = io.BytesIO()
    image.convert('RGB').save(converted, 'JPEG')
    return converted.getvalue()


def thumbnail(data: bytes, size: Size) -> bytes:
    image = load(data)
    image.thumbnail(size)
    resized = io.BytesIO()
    image.save(resized, 'JPEG')
    return resized.getvalue()


class Images:
    """Uploads and images: the body in memory, the loop's executor, aiofiles."""

    async def on_post(self, req: Any, resp: Any) -> None:
        data = await req.stream.read()
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(None, load, data)
        converted = await loop.run_in_executor(None, convert, image)
        image_id = str(uuid.uuid4())
        async with aiofiles.open(path(image_id), 'wb') as file:
            await file.write(converted)
        resp.media = {'id': image_id, 'size': image.size}
        resp.location = f'/images/{image_id}.jpeg'
        resp.status = falcon.HTTP_201

    async def on_get_image(self, req: Any, resp: Any, image_id: str) -> None:
        resp.content_type = falcon.MEDIA_JPEG
        resp.stream = await aiofiles.open(path(image_id), 'rb')


class Thumbnails:
    """Thumbnails, rendered for each request."""

    async def on_get(
        self, req: Any, resp: Any, image_id: str, width: int, height: int
    ) -> None:
        async with aiofiles.open(path(image_id), 'rb') as file:
            data = await file.read()
        loop = asyncio.get_running_loop()
        size = (width, height)
        resp.content_type = falcon.MEDIA_JPEG
        resp.data = await loop.run_in_executor(None, thumbnail, data, size)


def path(image_id: str) -> str:
    return os.path.join(os.environ['FOLDER'], image_id)


def app() -> falcon.asgi.App[Any, Any]:
    """Return the app for uvicorn; FOLDER is the storage folder."""
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    images = Images()
    app.add_route('/images', images)
    app.add_route('/images/{image_id}.jpeg', images, suffix='image')
    thumbnails = Thumbnails()
    app.add_route('/thumbnails/{image_id}/{width:int}x{height:int}.jpeg', thumbnails)
    return app
