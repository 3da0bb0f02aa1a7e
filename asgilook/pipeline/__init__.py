"""Processing of uploads, and rendering of thumbnails."""
