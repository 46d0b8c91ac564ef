"""What the phantoms are called."""

from __future__ import annotations

OF_RANDOM_WEIGHTS = (
    *("phantom", "phantom-reg4", "phantom-clip"),
    *("phantom-patches", "phantom-registers", "phantom-skip"),
    *("phantom-constant", "phantom-sink", "phantom-offset"),
)
OF_REAL_WEIGHTS = ("phantom-dinov2",)
NAMES = (*OF_RANDOM_WEIGHTS, *OF_REAL_WEIGHTS)
