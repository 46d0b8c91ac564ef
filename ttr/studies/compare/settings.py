"""What a comparison measures, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.norms import Threshold


@dataclass(frozen=True)
class ComparisonSettings:
    """What a comparison measures.

    Attributes:
        num_registers: R >= 0.
        threshold: for outliers; None: the rule the neurons were found with, else ``"auto"``.
        outlier_layer: where outliers are counted; None: where the neurons' were, else the penultimate.
    """

    num_registers: int = 1
    threshold: Threshold | None = None
    outlier_layer: int | None = None
