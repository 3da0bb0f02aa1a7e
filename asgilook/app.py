"""The wiring: every object, every route, every middleware."""

from __future__ import annotations

from typing import Any

import falcon
from falcon.media import MessagePackHandler

from .cache import RedisCache
from .conditional import Conditional
from .config import Config
from .cors import cors
from .errors import add_error_handlers
from .images import CanonicalUUID, Images, PixelSize, Thumbnails
from .protocol import Application
from .store import Store


class Lifespan:
    """Middleware without requests: opens the store first, and closes it last."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def process_startup(self, scope: Any, event: Any) -> None:
        """Open the store."""
        await self._store.start()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        """Close the store."""
        await self._store.stop()


def create_app(config: Config | None = None) -> Application:
    """Build the service; without a `config`, one from the environment."""
    config = config or Config()
    store = Store(config)
    images = Images(config, store)
    thumbnails = Thumbnails(config, store)

    app = Application(
        config,
        middleware=[
            *cors(config),
            Lifespan(store),
            Conditional(store.is_current),
            RedisCache(config),
        ],
    )
    app.resp_options.media_handlers[falcon.MEDIA_MSGPACK] = MessagePackHandler()
    app.router_options.converters['uuid'] = CanonicalUUID
    app.router_options.converters['size'] = PixelSize
    app.add_route('/images', images)
    app.add_route('/images/{image_id:uuid}.jpeg', images, suffix='image')
    app.add_route('/thumbnails/{image_id:uuid}/{size:size}.jpeg', thumbnails)
    add_error_handlers(app)
    return app
