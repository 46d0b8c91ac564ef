"""Zeroing registers one at a time against all at once: do their effects add up?

    excess = (collective - full) - sum over registers of (single - full).

Without interaction it is zero. A negative excess says that the registers stand in for one another: any one
can go, all cannot. (S-zero reports -18.9 points collectively against a sum of -5.2 for DINOv2 with registers,
-36.6 against -7.0 for DINOv3.) Intervals and tests are those of
:mod:`ttr.statistics.contrasts`; the full run enters the excess K - 1 times, so an image's own noise does too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttr.errors import OptionError
from ttr.statistics.contrasts import Contrast, Measured, contrast


@dataclass(frozen=True)
class Additivity:
    """Single effects, their sum, and the effect of all at once; differences from the full condition.

    Attributes:
        singles: {condition: its effect}.
        total: of the single effects.
        collective: effect of all at once.
        excess: collective - total; below 0, all at once costs more than the parts.
    """

    singles: dict[str, Contrast]
    total: Contrast
    collective: Contrast
    excess: Contrast


def additivity(
    values: Mapping[str, Measured],
    singles: Sequence[str],
    collective: str,
    *,
    full: str = "full",
    **options: Any,
) -> Additivity:
    """Compare the sum of single ablations with the collective one.

    Args:
        values: {condition: one number an image, or a statistic of resampled images}, of one metric.
        singles: conditions that ablate one token each.
        collective: the condition that ablates them all.
        full: the condition that ablates nothing.
        **options: those of :func:`ttr.statistics.contrasts.contrast`.

    Raises:
        OptionError: a condition is missing, or named twice, or as for ``contrast``.
    """
    named = [full, collective, *singles]
    missing = [name for name in named if name not in values]
    if missing or not singles or len(set(named)) < len(named):
        what = f"no values of {missing[0]!r}" if missing else f"conditions {named}"
        raise OptionError(f"{what}; needed {full!r}, {collective!r} and one or more single ones, each once")
    minus = [(-1.0, values[name]) for name in singles]
    plus = [(1.0, values[name]) for name in singles]
    return Additivity(
        singles={name: contrast([(1, values[name]), (-1, values[full])], **options) for name in singles},
        total=contrast([*plus, (-len(singles), values[full])], **options),
        collective=contrast([(1, values[collective]), (-1, values[full])], **options),
        excess=contrast([(1, values[collective]), *minus, (len(singles) - 1, values[full])], **options),
    )
