"""The tutorial's way with pictures, written from its description."""

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
    """Uploads: the body in memory, both steps in the loop's executor, aiofiles."""

    async def on_post(self, req: Any, resp: Any) -> None:
        data = await req.stream.read()
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(None, load, data)
        converted = await loop.run_in_executor(None, convert, image)
        image_id = str(uuid.uuid4())
        path = os.path.join(os.environ['FOLDER'], image_id)
        async with aiofiles.open(path, 'wb') as file:
            await file.write(converted)
        resp.media = {'id': image_id, 'size': image.size}
        resp.location = f'/images/{image_id}.jpeg'
        resp.status = falcon.HTTP_201


def app() -> falcon.asgi.App[Any, Any]:
    """Make the app for uvicorn; FOLDER names where its images go."""
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    app.add_route('/images', Images())
    return app
