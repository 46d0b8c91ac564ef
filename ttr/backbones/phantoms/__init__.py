"""Backbones whose truth is known: register neurons planted in random weights."""
