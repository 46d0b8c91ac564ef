"""A service that compares what arrives: in a folder or in an archive, each image once."""
