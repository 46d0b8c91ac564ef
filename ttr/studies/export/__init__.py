"""A wrapped backbone as one file."""
