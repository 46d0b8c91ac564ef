"""Analyses: what attention, geometry and registers do, each a pure function."""
