"""Commands of `asgilook`."""
