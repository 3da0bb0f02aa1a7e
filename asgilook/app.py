"""The wiring: every object, every route, every middleware."""

from __future__ import annotations

from typing import Any

import falcon
from falcon.media import MessagePackHandler

from .cache import RedisCache
from .config import Config
from .events.hub import Hub
from .events.relay import Relay
from .events.resource import Events
from .images import Images, Thumbnails
from .metrics import Metrics
from .redis_clients.factory import create_driver
from .resources.gallery import add_gallery
from .resources.health import Health
from .resources.metrics import MetricsResource
from .resources.openapi import OpenApi
from .store import Store
from .web.application import Application
from .web.conditional import Conditional
from .web.cors import cors
from .web.lifespan import Draining
from .web.problems import add_error_handlers
from .web.shortcut import Shortcut
from .web.urls import CanonicalUUID, PixelSize


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
    draining = Draining()
    metrics = Metrics()
    metrics_resource = MetricsResource(metrics)
    store = Store(config, metrics)
    relay = Relay(create_driver(config), config.redis_timeout)
    hub = Hub(relay, draining, metrics)
    images = Images(config, store, hub.publish)
    thumbnails = Thumbnails(config, store)
    cache = RedisCache(config)
    health = Health(store.is_usable, store.database_state, cache.redis_state, draining)

    app = Application(
        config,
        draining,
        metrics_resource.http.count,
        Shortcut(cache.find, store.is_current),
        middleware=[
            *cors(config),
            Lifespan(store),
            Conditional(),
            cache,
            draining,
            hub,
        ],
    )
    app.resp_options.media_handlers[falcon.MEDIA_MSGPACK] = MessagePackHandler()
    app.router_options.converters['uuid'] = CanonicalUUID
    app.router_options.converters['size'] = PixelSize
    app.add_route('/images', images)
    app.add_route('/images/{image_id:uuid}.jpeg', images, suffix='image')
    app.add_route('/thumbnails/{image_id:uuid}/{size:size}.jpeg', thumbnails)
    app.add_route('/healthz/live', health, suffix='live')
    app.add_route('/healthz/ready', health, suffix='ready')
    app.add_route('/metrics', metrics_resource)
    app.add_route('/openapi.json', OpenApi())
    app.add_route('/events', Events(hub))
    add_gallery(app)
    add_error_handlers(app)
    return app
