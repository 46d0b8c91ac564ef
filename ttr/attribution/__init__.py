"""Where in an image a model's answer comes from, patch by patch."""
