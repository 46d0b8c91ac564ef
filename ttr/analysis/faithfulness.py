"""Is the map faithful? Four checks beside every attention map, and a word for them.

The map shows where CLS looks among the patches. It tells where the image's feature comes from if these hold:

    amount      the feature is made of patches: cosine of the feature as the model gives it out with the same
                feature made in the last block of the patches alone (:mod:`ttr.analysis.integration`), both
                centred on their mean over other images (:mod:`ttr.analysis.reference`)
    own         it is made of this image's patches: they fit it better than other images' patches do
    agreement   the map is bright where patches give, and not where CLS looks and takes nothing
    deletion    taking the brightest patches out moves the feature more than taking out random ones
                (both: :mod:`ttr.analysis.which_patches`)

Lappe and Giese (2025, arXiv 2505.05892) compare by the plain cosine, and found -.0092 on a clean map of
DINOv2-g with registers. Alone it can be fooled: by a vector that both features hold and no image made (a bias
of the final norm: .92 on ``phantom-constant``), by one that only the whole one holds (.13 on
``phantom-offset``, which is made of its patches), and by an attention sink that gives nothing (.98 on
``phantom-sink``).

The thresholds of the amount are calibrated on the phantom family, whose truth is known. If the patches
contribute a vector of length a and all else one of length b, at right angles, the cosine is r / sqrt(1 + r^2)
with r = a / b. Turning the gain of ``phantom-patches`` from 1 to 30 gives this curve to within .1 on every
image.

    at least .9      the patches give at least twice as much as all else together
    .45 to .9        between half and twice as much
    below .45        less than half as much

Agreement is the share of the map's light that lies where patches give: a sink of no value that holds a share
s of it leaves 1 - s. The grade is that of the worst check. A check that cannot be made (no other images to
compare with, not the last block) is left out; without other images the amount is the plain cosine, and that
is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.analysis.integration import full_output, restricted
from ttr.analysis.reference import Reference
from ttr.analysis.which_patches import agreement, contribution_lengths, deletion
from ttr.backbones.base import Backbone
from ttr.forward.blocks import SeenBlock, watch
from ttr.forward.record import Record, record
from ttr.tokens import TokenLayout

Grade = Literal["not faithful", "partly faithful", "faithful"]
GRADES: tuple[Grade, ...] = ("not faithful", "partly faithful", "faithful")
FAITHFUL, PARTLY = 0.9, 0.45
#: {check: (partly from, faithful from)}; the one place where thresholds stand.
LEVELS = {
    "amount": (PARTLY, FAITHFUL),
    "own": (0.5, 0.9),
    "agreement": (0.3, 0.6),
    "deletion": (0.5, 0.9),
}
SOUND = (
    "the patches give at least twice as much of what is this image's own in the feature as all else "
    "together, the map is bright where they give it, and taking the brightest out moves the feature more "
    "than random ones"
)
UNCENTRED = "There were no other images to compare with, so what all images have in common is counted."


@dataclass(frozen=True)
class Trust:
    """What was measured of one map, or its mean over images; NaN where it could not be.

    Attributes:
        cosine: of the feature made of the patches alone with the whole one, -1..1, as published.
        centred: the same less the means over other images, -1..1.
        null: mean cosine of other images' patches with this image's feature, -1..1.
        own: share of other images whose patches fit the centred feature less than its own, 0..1.
        agreement: share of the map's light that lies where patches give, 0..1.
        deletion: share of random draws that the brightest patches beat, 0..1.
    """

    cosine: float
    centred: float = math.nan
    null: float = math.nan
    own: float = math.nan
    agreement: float = math.nan
    deletion: float = math.nan

    @property
    def amount(self) -> float:
        """The map's faithfulness: the centred cosine, or the plain one where there is no other image."""
        return self.cosine if math.isnan(self.centred) else self.centred

    @classmethod
    def of(cls, row: Any) -> Trust:
        """Return the trust that a row of a table holds under these names."""
        return cls(*(float(getattr(row, field.name)) for field in fields(cls)))

    @classmethod
    def mean(cls, found: Iterable[Trust]) -> Trust:
        """Return the mean of some, each number over those that have it."""
        columns = zip(*(vars(each).values() for each in found), strict=True)
        known = ([x for x in column if not math.isnan(x)] for column in columns)
        return cls(*(float(np.mean(column)) if column else math.nan for column in known))

    def to_json(self) -> dict[str, float | None]:
        """Return the numbers as JSON values."""
        return {name: None if math.isnan(value) else value for name, value in vars(self).items()}


def levels(trust: Trust) -> dict[str, int]:
    """Return how each check that could be made came out: 0 failed, 1 in part, 2 passed."""
    values = {name: getattr(trust, name) for name in LEVELS}
    return {
        name: sum(value >= level for level in LEVELS[name])
        for name, value in values.items()
        if not math.isnan(value)
    }


def grade(trust: Trust) -> Grade:
    """Return the word for a map: that of its worst check."""
    return GRADES[min(levels(trust).values())]


def meaning(trust: Trust) -> str:
    """Return in plain words why a map has its grade: which checks failed, and what that says of the map."""
    found = levels(trust)
    worst = min(found.values())
    failed = [_said(name, level, trust) for name, level in found.items() if level < 2]
    shows = (
        "so the map does not show where the image's feature comes from",
        "so the map shows a part of where the image's feature comes from",
    )
    # Clauses of their own, which hold "and" and "or" themselves.
    said = f"{', and '.join(failed)}, {shows[worst]}" if failed else SOUND
    return f"{said}. {UNCENTRED[:-1]}" if math.isnan(trust.centred) else said


def _said(check: str, level: int, trust: Trust) -> str:
    amounts = (
        "most of what is this image's own in the feature comes from registers or from what CLS held before "
        "the last block",
        "the patches give between half and twice as much of what is this image's own in the feature as all "
        "else",
    )
    barely = ("no more", "hardly more")[level]
    fit, elsewhere = (f"{100 * (1 - share):.0f} %" for share in (trust.own, trust.agreement))
    return {
        "amount": amounts[level],
        "own": f"other images' patches fit the feature as well as its own ({fit} of them do)",
        "agreement": f"{elsewhere} of the map's light lies where the patches do not give it",
        "deletion": f"taking the brightest patches out moves the feature {barely} than random ones",
    }[check]


def sentence(before: Trust, after: Trust) -> str:
    """Return in one or two sentences how far the maps before and after can be trusted."""
    first, second = grade(before), grade(after)
    a, b = (f"{round(trust.amount, 2) + 0.0:.2f}" for trust in (before, after))  # never a negative nothing
    if meaning(before) == meaning(after):
        return f"The map is {first} before ({a}) and after ({b}): {meaning(after)}."
    if first == second == "faithful":
        return f"The map is faithful before ({a}) and after ({b}): {meaning(after)}."
    return (
        f"Before, the map is {first} ({a}): {meaning(before)}. After, it is {second} ({b}): {meaning(after)}."
    )


@torch.no_grad()
def record_with_faithfulness(
    backbone: Backbone,
    images: Tensor,
    *,
    attention: Literal[True, "ahead"] = True,
    reference: Reference | None = None,
) -> tuple[Record, list[Trust]]:
    """Run ``images`` [B, 3, H, W] once; return the record with CLS attention, and the trust in each map.

    An installed wrap takes part; it must stand in ``reference``, too. ``attention`` is that of
    :func:`ttr.forward.record.record`.

    Raises:
        ModelError: as :func:`ttr.forward.record.record` and :func:`ttr.forward.blocks.watch`.
    """
    last = backbone.num_layers - 1
    with watch(backbone, last) as seen:
        passed = record(backbone, images, attention=attention)
    layout, weights = passed.layout, passed.cls_attention[-1]
    full = full_output(backbone, layout, seen)
    patches = restricted(backbone, layout, last, seen, parts=["patches"], weights=weights)["patches"]
    found = {"cosine": F.cosine_similarity(patches, full)}
    if reference is not None:
        found |= reference.compared(patches.cpu(), full.cpu())
    found |= checked(backbone, passed.layout, last, seen, weights)
    return passed, [
        Trust(**{name: float(values[item]) for name, values in found.items()}) for item in range(len(images))
    ]


def checked(
    backbone: Backbone, layout: TokenLayout, block: int, seen: Mapping[int, SeenBlock], weights: Tensor
) -> dict[str, Tensor]:
    """Return the checks of :mod:`ttr.analysis.which_patches`, {agreement, deletion: float32 [B]}."""
    lengths = contribution_lengths(backbone, layout, block, seen[block], weights)
    attention = layout.select(weights.mean(dim=1), "patches")
    return {
        "agreement": agreement(attention, lengths),
        "deletion": deletion(backbone, layout, block, seen, weights),
    }
