"""What is kept of each image, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ttr.backbones.pooling import Pooling
from ttr.checks import integer, register_counts
from ttr.errors import OptionError
from ttr.norms import Threshold, check_threshold
from ttr.registers.variants import ALGORITHM, Variant, check_variant

#: Floating-point types in which numbers are written.
STORAGE = ("float32", "float16")
SHARD = 1024


@dataclass(frozen=True)
class EmbedSettings:
    """What is kept of each image, and how it is written.

    Attributes:
        pooling: what the embedding is, see :meth:`ttr.backbones.base.Backbone.embed`.
        num_registers: R >= 0, where neurons are given; else the model is bare.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
        outlier_share: whether the share of outlier patches is kept, 0..1.
        faithfulness: whether that of the attention map is kept, -1..1: the amount of
            :mod:`ttr.analysis.faithfulness`, centred on the library's images.
        patch_tokens: whether the patch tokens after the final norm are kept.
        threshold: of an outlier, of the map as it is (bare or wrapped); None: the rule that the neurons were
            found with, else ``"auto"``.
        outlier_layer: where outliers are counted; None: where the neurons' were, else the penultimate.
        storage: type of what is written, of :data:`STORAGE`.
        shard_size: images a shard. One shard stands in memory, its patch tokens too.

    Raises:
        OptionError: a value is outside its range.
    """

    pooling: Pooling = "own"
    num_registers: int = 1
    variant: Variant = ALGORITHM
    outlier_share: bool = False
    faithfulness: bool = False
    patch_tokens: bool = False
    threshold: Threshold | None = None
    outlier_layer: int | None = None
    storage: str = "float32"
    shard_size: int = SHARD

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            known = ", ".join(map(repr, get_args(Pooling)))
            raise OptionError(f"pooling={self.pooling!r}; needed one of {known}")
        check_variant(self.variant)
        register_counts([self.num_registers], 0)
        integer("shard_size", self.shard_size, 1)
        if self.threshold is not None:
            object.__setattr__(self, "threshold", check_threshold(self.threshold))
        if self.storage not in STORAGE:
            raise OptionError(f"storage={self.storage!r}; needed one of {', '.join(STORAGE)}")
