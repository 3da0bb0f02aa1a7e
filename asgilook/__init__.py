"""An image service: stores uploads as JPEG and renders thumbnails on request."""

__version__ = '0.2.0'
