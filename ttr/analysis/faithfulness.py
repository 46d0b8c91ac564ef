"""Is the map faithful? One number beside every attention map, and a word for it.

The map shows where CLS looks among the patches. Its *faithfulness* is the cosine between the image's feature
(CLS after the final norm) and the same feature made in the last block of the patches alone
(:mod:`ttr.analysis.integration`): Lappe and Giese (2025, arXiv 2505.05892) found -.0092 on a clean map of
DINOv2-g with registers. Near 1, the feature is what the patches gave, and the map says where from. Near 0, it
was made of registers or of what CLS held before, and the map is a picture of something else.

The word is calibrated on the phantom family, whose truth is known. If the patches contribute a vector of
length a and all else one of length b, at right angles, the cosine is r / sqrt(1 + r^2) with r = a / b.
Turning the gain of ``phantom-patches`` from 1 to 30 gives this curve to within .1 on every image. So

    faithful        from .9 on     the patches give at least twice as much as all else together
    partly          .45 to .9      between half and twice as much
    not faithful    below .45      less than half as much

``phantom-patches`` has .99, ``phantom-registers`` and ``phantom-skip`` at most .2 on every image. The cosine
also counts what all images have in common; over a set, CKA (:mod:`ttr.analysis.similarity`) does not, and
belongs beside it.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ttr.analysis.integration import full_output, restricted
from ttr.backbones.base import Backbone
from ttr.forward.blocks import watch
from ttr.forward.record import Record, record

Grade = Literal["faithful", "partly faithful", "not faithful"]
FAITHFUL, PARTLY = 0.9, 0.45
MEANING: dict[Grade, str] = {
    "faithful": "the patches give the image's feature at least twice as much as all else together, "
    "and the map shows which of them",
    "partly faithful": "the patches give between half and twice as much as all else, "
    "so the map shows a part of where the image's feature comes from",
    "not faithful": "most of the image's feature comes from registers or from what CLS held before the last "
    "block, and the map does not show where from",
}


def grade(faithfulness: float) -> Grade:
    """Return the word for a faithfulness, -1..1; see the module for the thresholds."""
    if faithfulness >= FAITHFUL:
        return "faithful"
    return "partly faithful" if faithfulness >= PARTLY else "not faithful"


def sentence(before: float, after: float) -> str:
    """Return in one sentence how far the maps before and after can be trusted."""
    first, second = grade(before), grade(after)
    if first == second:
        return f"The map is {first} before ({before:.2f}) and after ({after:.2f}): {MEANING[first]}."
    return (
        f"Before, the map is {first} ({before:.2f}); after, it is {second} ({after:.2f}): {MEANING[second]}."
    )


@torch.no_grad()
def record_with_faithfulness(
    backbone: Backbone, images: Tensor, *, attention: Literal[True, "ahead"] = True
) -> tuple[Record, Tensor]:
    """Run ``images`` [B, 3, H, W] once; return the record with CLS attention, and each image's faithfulness.

    An installed wrap takes part. The second is float32 [B], -1..1. ``attention`` is that of
    :func:`ttr.forward.record.record`.

    Raises:
        ModelError: as :func:`ttr.forward.record.record` and :func:`ttr.forward.blocks.watch`.
    """
    last = backbone.num_layers - 1
    with watch(backbone, last) as seen:
        passed = record(backbone, images, attention=attention)
    weights = passed.cls_attention[-1]
    patches = restricted(backbone, passed.layout, last, seen, parts=["patches"], weights=weights)["patches"]
    return passed, F.cosine_similarity(patches, full_output(backbone, passed.layout, seen))
