"""What a comparison measures, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.checks import register_counts
from ttr.norms import Threshold, check_threshold
from ttr.registers.variants import ALGORITHM, Variant, check_variant


@dataclass(frozen=True)
class ComparisonSettings:
    """What a comparison measures.

    Attributes:
        num_registers: R >= 0.
        threshold: for outliers; None: the rule the neurons were found with, else ``"auto"``.
        outlier_layer: where outliers are counted; None: where the neurons' were, else the penultimate.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.

    Raises:
        OptionError: a value is outside its range.
    """

    num_registers: int = 1
    threshold: Threshold | None = None
    outlier_layer: int | None = None
    variant: Variant = ALGORITHM

    def __post_init__(self) -> None:
        check_variant(self.variant)
        register_counts([self.num_registers], 0)
        if self.threshold is not None:
            check_threshold(self.threshold)
