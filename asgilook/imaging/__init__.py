"""Pixels and file formats, with Pillow: pure functions on bytes and binary files."""
