"""The application for an ASGI server: `uvicorn asgilook.asgi:app`."""

from .app import create_app
from .config import ConfigError

try:
    app = create_app()
except ConfigError as ex:
    raise SystemExit(f'asgilook: {ex}') from None
