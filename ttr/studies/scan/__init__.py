"""Which models have outlier patches, at which blocks and resolutions, and what is to be done about them."""
