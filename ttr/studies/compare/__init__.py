"""Before and after, image by image."""
