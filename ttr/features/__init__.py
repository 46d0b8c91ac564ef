"""Images x arms -> features, each computed once and kept."""
