"""How many neurons, up to which block, how many registers."""
