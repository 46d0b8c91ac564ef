"""What a scan measures, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.checks import integer
from ttr.errors import OptionError
from ttr.norms import Threshold, check_threshold


@dataclass(frozen=True)
class ScanSettings:
    """What a scan measures.

    Attributes:
        sizes: sides of the square input in pixels, each once; none: each model's own.
        threshold: norm above which a patch is an outlier, see :mod:`ttr.norms`.

    Raises:
        OptionError: a value is outside its range.
    """

    sizes: tuple[int, ...] = ()
    threshold: Threshold = "auto"

    def __post_init__(self) -> None:
        for size in self.sizes:
            integer("sizes", size, 1)
        if len(set(self.sizes)) < len(self.sizes):
            raise OptionError(f"sizes={', '.join(map(str, self.sizes))}; needed each once")
        object.__setattr__(self, "threshold", check_threshold(self.threshold))
