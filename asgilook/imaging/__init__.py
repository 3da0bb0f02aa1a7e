"""Pixels and file formats: Pillow and bytes, no HTTP and no event loop."""
