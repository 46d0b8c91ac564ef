"""Machines of a cluster that share the work of a run, as many workers do it a piece at a time."""
