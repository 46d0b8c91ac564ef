"""Two variants of how register neurons are moved: light to import, so that a typo is told at once.

Jiang et al. (2025, arXiv 2506.08010) print one and released another:

    algorithm       Algorithm 2: a register gets the neuron's value of largest magnitude, sign kept, and every
                    other token gets 0
    released-code   a register gets the neuron's maximum, over the same tokens (CLS and the registers too),
                    and every other token but CLS gets 0

They differ where a neuron is negative where it is strongest, and in what CLS keeps.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from ttr.errors import OptionError

Variant = Literal["algorithm", "released-code"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
ALGORITHM: Variant = "algorithm"
#: What :class:`ttr.TestTimeRegisters` does by each, where it is not told otherwise.
OPTIONS: dict[Variant, dict[str, Any]] = {
    "algorithm": {"register_value": "neuron", "scope": "all"},
    "released-code": {"register_value": "maximum", "scope": "all-but-cls"},
}


def check_variant(variant: Any) -> Variant:
    """Return the variant, or raise OptionError."""
    if variant not in VARIANTS:
        raise OptionError(f"variant={variant!r}; needed one of {', '.join(map(repr, VARIANTS))}")
    found: Variant = variant
    return found
