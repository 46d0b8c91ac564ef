"""Does an ablation hurt one model more than another, on the same images?

    difference = (ablated_a - full_a) - (ablated_b - full_b),

image by image, with the paired permutation test that swaps the two models' effects within an image (or
group); what they come to together is decided in :mod:`ttr.statistics.verdict`. (S-zero: DINOv3 against
DINOv2 with registers, registers zeroed, p < 0.001.) The images of both must be the same ones in the same
order.

The models differ in more than their registers: a difference says which depends on them more, not why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttr.errors import OptionError
from ttr.statistics.contrasts import Contrast, Measured, contrast


@dataclass(frozen=True)
class EffectDifference:
    """One condition's effect in two models.

    Attributes:
        condition: its name.
        effect_a: ablated - full in the first model.
        effect_b: in the second.
        difference: effect_a - effect_b; a loss is a negative effect.
    """

    condition: str
    effect_a: Contrast
    effect_b: Contrast
    difference: Contrast


def between_models(
    a: Mapping[str, Measured],
    b: Mapping[str, Measured],
    *,
    conditions: Sequence[str] | None = None,
    full: str = "full",
    **options: Any,
) -> tuple[EffectDifference, ...]:
    """Compare the effect of each condition between two models.

    Args:
        a: {condition: one number an image, or a statistic of resampled images} of the first model.
        b: the same of the second, for the same images in the same order.
        conditions: which to compare; None: all that both have.
        full: the condition that ablates nothing.
        **options: those of :func:`ttr.statistics.contrasts.contrast`.

    Raises:
        OptionError: a condition is missing from a model, or none is left, or as for ``contrast``.
    """
    if conditions is None:
        conditions = [name for name in a if name in b and name != full]
    missing = [name for name in (full, *conditions) if name not in a or name not in b]
    if missing or not conditions or full in conditions:
        what = f"no values of {missing[0]!r} in one of the models" if missing else f"conditions {conditions}"
        raise OptionError(f"{what}; needed {full!r} and one or more other conditions in both")
    found = []
    for name in conditions:
        terms_a = [(1.0, a[name]), (-1.0, a[full])]
        terms_b = [(1.0, b[name]), (-1.0, b[full])]
        against = [(-factor, measured) for factor, measured in terms_b]
        found.append([contrast(terms, **options) for terms in (terms_a, terms_b, terms_a + against)])
    return tuple(
        EffectDifference(name, *contrasts) for name, contrasts in zip(conditions, found, strict=True)
    )
