"""What the heads are called: light to import, so that a typo is told at once."""

from __future__ import annotations

NAMES = ("linear", "logistic")
