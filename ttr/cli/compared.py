"""Options of what a comparison measures, of every command that makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttr.cli import given, options
from ttr.cli.groups import Group

if TYPE_CHECKING:
    from ttr.studies.compare.settings import ComparisonSettings


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Group):
    """How registers are moved, and what counts as an outlier."""

    num_registers: options.NumRegisters = 1
    variant: options.VariantName = options.Variant.algorithm
    threshold: options.Threshold = None
    outlier_layer: options.OutlierLayer = None

    def settings(self) -> ComparisonSettings:
        """Return them.

        Raises:
            OptionError: a value is outside its range.
        """
        from ttr.studies.compare.settings import ComparisonSettings

        rule = given.parse_threshold(self.threshold)
        return ComparisonSettings(self.num_registers, rule, self.outlier_layer, variant=self.variant.value)
