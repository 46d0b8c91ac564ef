"""What a tuning sweeps over, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ttr.checks import integers, register_counts
from ttr.errors import OptionError
from ttr.norms import Threshold, check_threshold
from ttr.registers.variants import ALGORITHM, Variant, check_variant

REGISTERS = (0, 1, 2, 3, 4, 5, 10, 20)
TOLERANCE = 0.05


@dataclass(frozen=True)
class TuningSettings:
    """What a tuning sweeps over.

    Attributes:
        top_k: numbers of neurons; None: :func:`ttr.studies.tune.tuning.default_top_k`.
        top_layers: last blocks; None: :func:`ttr.studies.tune.tuning.default_top_layers`.
        num_registers: values of R for the second sweep.
        tolerance: share of the bare model's outliers below which they have vanished.
        threshold: for outliers; None: the rule of the given neurons, else ``"auto"``.
        outlier_layer: where they are counted; None: where the given neurons' were, else the penultimate.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.

    Raises:
        OptionError: a list is empty, or a value is outside its range.
    """

    top_k: tuple[int, ...] | None = None
    top_layers: tuple[int, ...] | None = None
    num_registers: tuple[int, ...] = REGISTERS
    tolerance: float = TOLERANCE
    threshold: Threshold | None = None
    outlier_layer: int | None = None
    variant: Variant = ALGORITHM

    def __post_init__(self) -> None:
        check_variant(self.variant)
        register_counts(self.num_registers, 0)
        if self.top_k is not None:
            integers("top_k", self.top_k, 1)
        if self.top_layers is not None:
            integers("top_layers", self.top_layers)
        check_tolerance(self.tolerance)
        if self.threshold is not None:
            check_threshold(self.threshold)


def check_tolerance(tolerance: float) -> None:
    """Raise OptionError unless it is a share, 0 to below 1."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise OptionError(
            f"tolerance={tolerance!r}; needed a share of the bare model's outliers, 0 to below 1"
        )


def ascending(name: str, values: Sequence[int], least: int) -> list[int]:
    """Return the values ascending, each once, or raise OptionError."""
    return sorted(set(integers(name, values, least)))
