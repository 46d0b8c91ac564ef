"""What the arms are called: light to import, so that a typo is told at once."""

from __future__ import annotations

NAMES = ("plain", "token", "neurons", "ttr", "random", "random-neurons", "attention-bias")
DEFAULT = ("plain", "token", "neurons", "ttr", "random")
