"""An image service: takes any picture, keeps it as JPEG, renders thumbnails."""

__version__ = '0.1.0'
