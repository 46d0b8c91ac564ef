"""Published studies again, their numbers beside measured ones."""
