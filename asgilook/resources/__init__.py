"""Resources other than images: gallery, health, metrics, OpenAPI."""
