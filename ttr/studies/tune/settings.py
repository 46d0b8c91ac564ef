"""What a tuning sweeps over, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.errors import OptionError
from ttr.norms import Threshold

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

    Raises:
        OptionError: a list is empty, or a value is outside its range.
    """

    top_k: tuple[int, ...] | None = None
    top_layers: tuple[int, ...] | None = None
    num_registers: tuple[int, ...] = REGISTERS
    tolerance: float = TOLERANCE
    threshold: Threshold | None = None
    outlier_layer: int | None = None

    def __post_init__(self) -> None:
        ascending("num_registers", self.num_registers, 0)
        if self.top_k is not None:
            ascending("top_k", self.top_k, 1)


def ascending(name: str, values: tuple[int, ...] | list[int], smallest: int) -> list[int]:
    """Return the values ascending, each once, or raise OptionError."""
    if not values:
        raise OptionError(f"the list of {name} is empty; give at least one number")
    if min(values) < smallest:
        raise OptionError(f"{name}={min(values)}; needed {smallest} or more")
    return sorted(set(values))
