"""What an integration measures, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.checks import integer, integers, register_counts
from ttr.errors import OptionError
from ttr.registers.variants import ALGORITHM, Variant, check_variant


@dataclass(frozen=True)
class IntegrationSettings:
    """What an integration measures.

    Attributes:
        blocks: where CLS is restricted; negative ones count from the last.
        num_registers: values of R; 0 is the bare model.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.
        renormalise: divide the kept attention weights by their sum; published: not.
        keep_skip: leave the skip connection beside every part; published: not.
        num_images: a seeded sample of so many test (and training) images; None: all.

    Raises:
        OptionError: no block, no number of registers, a negative one, one given twice, or no image.
    """

    blocks: tuple[int, ...] = (-1,)
    num_registers: tuple[int, ...] = (0, 1, 2, 3, 4)
    variant: Variant = ALGORITHM
    renormalise: bool = False
    keep_skip: bool = False
    num_images: int | None = 500

    def __post_init__(self) -> None:
        given = self.num_registers
        if not given or min(register_counts(given)) < 0 or len(set(given)) != len(given):
            said = ", ".join(map(str, given)) or "none"
            raise OptionError(f"num_registers {said}; needed numbers >= 0, each once (0: the bare model)")
        check_variant(self.variant)
        integers("blocks", self.blocks)
        if self.num_images is not None:
            integer("num_images", self.num_images, 1)

    @property
    def counts(self) -> list[int]:
        """The numbers of registers, ascending."""
        return sorted(self.num_registers)
