"""What the store does with images: uploads in, thumbnails out."""
