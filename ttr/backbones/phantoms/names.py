"""What the phantoms are called."""

from __future__ import annotations

NAMES = (
    *("phantom", "phantom-reg4", "phantom-clip"),
    *("phantom-patches", "phantom-registers", "phantom-skip"),
)
