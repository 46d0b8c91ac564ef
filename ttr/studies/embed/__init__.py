"""Embeddings of millions of images, as shards that are whole or absent."""
