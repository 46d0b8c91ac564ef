"""Conditions x tasks x analyses: what tokens are for."""
