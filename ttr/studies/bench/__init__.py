"""Linear heads on a labelled set, every arm on the same images."""
