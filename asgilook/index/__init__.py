"""Which images exist, according to a folder or a database."""
