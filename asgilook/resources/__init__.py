"""What is served besides images: gallery, health, metrics, OpenAPI."""
