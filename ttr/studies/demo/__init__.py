"""Everything at once, offline: on real weights where they are at hand, else on a phantom."""
