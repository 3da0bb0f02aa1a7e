"""Storage of image files, in a folder or in an object store."""
