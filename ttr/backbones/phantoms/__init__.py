"""Backbones whose truth is known: register neurons planted in random or pretrained weights."""
