"""What a localisation measures, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ttr.attribution.attribute import WITHOUT_TARGET, Method
from ttr.checks import integer, names, register_counts
from ttr.evaluate.head_names import NAMES as HEADS
from ttr.registers.arm_names import NAMES as ARMS
from ttr.registers.variants import ALGORITHM, Variant, check_variant
from ttr.statistics.verdict import MARGIN, check_margin

METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class LocalisationSettings:
    """What a localisation measures.

    Attributes:
        arms: of :data:`ttr.registers.arm_names.NAMES`.
        methods: of :data:`ttr.attribution.attribute.Method`.
        head: kind of the linear head whose classes the methods with a target are asked for, of
            :data:`ttr.evaluate.head_names.NAMES`.
        num_registers: R of the arms with tokens.
        draws: of the random arms; their numbers are averaged image by image.
        num_images: test images at most, and as many validation images; None: all that have an outline.
        curves: whether insertion and deletion are followed as well: 44 passes a map.
        sanity: whether the maps of a model that forgets block by block are looked at, too.
        boxes: whether hits and boxes are scored as in Chung et al. 2025, too
            (:data:`ttr.evaluate.localisation.BOXED`).
        margin: of equivalence, a share.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.

    Raises:
        OptionError: an unknown arm, method or head, or a value outside its range.
    """

    arms: tuple[str, ...] = ("plain", "token", "ttr", "random")
    methods: tuple[str, ...] = ("attention", "chefer")
    head: str = "logistic"
    num_registers: int = 1
    draws: int = 3
    num_images: int | None = None
    curves: bool = False
    sanity: bool = False
    boxes: bool = False
    margin: float = MARGIN
    variant: Variant = ALGORITHM

    def __post_init__(self) -> None:
        names("arms", self.arms, ARMS)
        names("methods", self.methods, METHODS)
        names("head", (self.head,), HEADS)
        register_counts([self.num_registers], 1)
        integer("draws", self.draws, 1)
        if self.num_images is not None:
            integer("num_images", self.num_images, 2)
        check_margin(self.margin)
        check_variant(self.variant)

    @property
    def asks_for_classes(self) -> bool:
        """Whether a method wants a target, or a curve the probability of a class."""
        return self.curves or not set(self.methods) <= set(WITHOUT_TARGET)
