"""Application factory: every object, route and middleware of the service."""

from __future__ import annotations

import logging
from typing import NoReturn

import falcon
from falcon.media import MessagePackHandler

from .cache import RedisCache
from .config import Config
from .events.hub import Hub
from .events.relay import Relay
from .events.resource import Events
from .images import Images, Thumbnails
from .metrics.registry import Metrics
from .redis_clients.factory import create_driver
from .resources.gallery import add_gallery
from .resources.health import Health
from .resources.metrics import MetricsResource
from .resources.openapi import OpenApi
from .resources.probes import Probes
from .store import Store
from .web.application import Application
from .web.conditional import Conditional
from .web.cors import cors
from .web.lifespan import Draining, Lifespan
from .web.problems import add_error_handlers
from .web.representations import LIST_KEYS
from .web.urls import CanonicalUrls, CanonicalUUID, PixelSize

log = logging.getLogger(__name__)

_HINT = (
    'asgilook.app contains only the application factory: run `python -m asgilook`, or '
    '`uvicorn asgilook.asgi:app`'
)


def create_app(config: Config | None = None) -> Application:
    """Build the service, by default with the settings from the environment."""
    config = config or Config()
    metrics = Metrics()
    draining = Draining()
    store = Store(config, metrics)
    relay = Relay(create_driver(config), config.redis_timeout)
    hub = Hub(relay, draining, metrics)
    cache = RedisCache(config, negotiated=LIST_KEYS)
    images = Images(config, store, publish=hub.publish)
    thumbnails = Thumbnails(config, store)
    webp_thumbnails = Thumbnails(config, store, format_='webp')
    probes = Probes(
        is_storage_usable=store.is_usable,
        free_bytes=store.free_bytes,
        count_images=store.count,
        database_state=store.database_state,
        redis_state=cache.redis_state,
    )
    health = Health(probes, draining)

    app = Application(
        config,
        cache=cache,
        draining=draining,
        count=metrics.requests.count,
        # NOTE(order): Falcon calls `process_startup` and `process_resource` in this
        #   order, `process_response` in reverse.
        #   Lifespan comes before the cache, whose start never fails: if the store or
        #   the hub fails to start, Lifespan stops what it has started.
        #   Conditional comes before the cache, which looks up the representation that
        #   Conditional identifies. On the way back it comes after the cache, which
        #   stores the whole body before Conditional extracts a range.
        #   CORS comes first, so that its headers are added to every response.
        middleware=[
            *cors(config),
            Lifespan(store, draining, hub),
            CanonicalUrls(),
            Conditional(),
            cache,
        ],
    )
    app.resp_options.media_handlers[falcon.MEDIA_MSGPACK] = MessagePackHandler()
    app.router_options.converters['uuid'] = CanonicalUUID
    app.router_options.converters['size'] = PixelSize
    app.add_route('/images', images)
    app.add_route('/images/{image_id:uuid}.jpeg', images, suffix='image')
    app.add_route('/thumbnails/{image_id:uuid}/{size:size}.jpeg', thumbnails)
    app.add_route('/thumbnails/{image_id:uuid}/{size:size}.webp', webp_thumbnails)
    app.add_route('/healthz/live', health, suffix='live')
    app.add_route('/healthz/ready', health, suffix='ready')
    app.add_route('/metrics', MetricsResource(metrics, probes))
    app.add_route('/openapi.json', OpenApi())
    app.add_route('/events', Events(hub))
    add_gallery(app)
    add_error_handlers(app)
    return app


def __getattr__(name: str) -> NoReturn:
    """Log a hint for `uvicorn asgilook.app:app`, the tutorial's first command."""
    if name == 'app':
        log.error(_HINT)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


if __name__ == '__main__':
    raise SystemExit(_HINT)
