"""What a localisation measures, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ttr.attribution.attribute import WITHOUT_TARGET, Method
from ttr.checks import integer, names, register_counts
from ttr.evaluate.head_names import NAMES as HEADS
from ttr.evaluate.insertion import BLANKS
from ttr.registers.arm_names import NAMES as ARMS
from ttr.registers.variants import ALGORITHM, Variant, check_variant
from ttr.statistics.verdict import MARGIN, check_margin
from ttr.studies.localize.asked import OWN, TEXT

METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class LocalisationSettings:
    """What a localisation measures.

    Attributes:
        arms: of :data:`ttr.registers.arm_names.NAMES`.
        methods: of :data:`ttr.attribution.attribute.Method`.
        head: whose classes the methods with a target are asked for: a linear head of
            :data:`ttr.evaluate.head_names.NAMES`, trained on the set, the model's ``own``, or ``text``.
        prompt: of ``text``, with {} where the name of the class goes.
        num_registers: R of the arms with tokens.
        draws: of the random arms; their numbers are averaged image by image.
        num_images: test images at most, and as many validation images; None: all that have an outline.
        curves: of :data:`ttr.evaluate.insertion.BLANKS`, along which insertion and deletion are followed as
            well: 22 passes a map each.
        discovery: whether LOST looks for one object an image, too.
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
    prompt: str = "{}"
    num_registers: int = 1
    draws: int = 3
    num_images: int | None = None
    curves: tuple[str, ...] = ()
    sanity: bool = False
    discovery: bool = False
    boxes: bool = False
    margin: float = MARGIN
    variant: Variant = ALGORITHM

    def __post_init__(self) -> None:
        names("arms", self.arms, ARMS)
        names("methods", self.methods, METHODS)
        names("head", (self.head,), (*HEADS, OWN, TEXT))
        if self.curves:
            names("curves", self.curves, BLANKS)
        register_counts([self.num_registers], 1)
        integer("draws", self.draws, 1)
        if self.num_images is not None:
            integer("num_images", self.num_images, 2)
        check_margin(self.margin)
        check_variant(self.variant)

    @property
    def asks_for_classes(self) -> bool:
        """Whether a method wants a target, or a curve the probability of a class."""
        return bool(self.curves) or not set(self.methods) <= set(WITHOUT_TARGET)
