"""One look at a model as it is: attention, norms, patch colours, and how faithful the map is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ttr.analysis.faithfulness import Trust, grade, record_with_faithfulness
from ttr.analysis.patch_colours import fit_colours
from ttr.analysis.reference import refer
from ttr.backbones.base import Backbone
from ttr.drawing.maps import ATTENTION_MAP, NORM_MAP, below_extremes, colourise, finish
from ttr.drawing.picture_table import Cell, draw_table
from ttr.forward.preprocessing import pixels_of
from ttr.hooks import keep

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("image", "attention of CLS", "patch norms", "patches as colours")


@dataclass(frozen=True, eq=False)
class ModelLook:
    """What a bare model shows of one image.

    Attributes:
        name: of the image.
        pixels: what the model saw, uint8 [H, W, 3].
        attention: of CLS to each patch in the last block, mean of the heads, [rows, columns], 0..1.
        norms: of the patches at the last block's output, [rows, columns].
        colours: of the patches there, on a basis that all images share, uint8 [rows, columns, 3].
        trust: whether the map shows where the feature comes from, see :mod:`ttr.analysis.faithfulness`.
    """

    name: str
    pixels: np.ndarray
    attention: np.ndarray
    norms: np.ndarray
    colours: np.ndarray
    trust: Trust


def look_at(backbone: Backbone, images: Mapping[str, Image]) -> list[ModelLook]:
    """Look at each named image, one at a time.

    Raises:
        ModelError: the model has no CLS token.
    """
    seen, patches = [], []
    reference = refer(backbone, list(images.values()) if len(images) > 2 else None)
    for image in images.values():
        batch = backbone.preprocess(image)[None]
        with keep(backbone.sites.blocks[-1:]) as tokens:
            passed, trusts = record_with_faithfulness(backbone, batch, reference=reference)
        layout = passed.layout
        attention = layout.to_grid(layout.select(passed.cls_attention[-1].mean(dim=1), "patches"))
        norms = layout.to_grid(layout.select(passed.norms[-1], "patches"))
        patch = layout.select(tokens[0], "patches")[0].float()
        patches.append((patch / patch.norm(dim=1, keepdim=True)).cpu().numpy())
        maps = (grid[0].cpu().numpy() for grid in (attention, norms))
        seen.append((pixels_of(backbone, batch)[0], *maps, layout.grid, trusts[0]))
    basis = fit_colours(np.concatenate(patches))
    return [
        ModelLook(name, pixels, attention, norms, basis.paint(patch, grid), trust)
        for name, (pixels, attention, norms, grid, trust), patch in zip(images, seen, patches, strict=True)
    ]


def draw_looks(looks: Sequence[ModelLook]) -> str:
    """Return a picture as a data URI, a row an image; norms share one scale, attention has its own each."""
    highest = max(float(look.norms.max()) for look in looks)
    rows = {}
    for look in looks:
        size = look.pixels.shape[:2]
        high = below_extremes(look.attention)
        coloured = look.colours.repeat(size[0] // look.colours.shape[0], axis=0)
        coloured = coloured.repeat(size[1] // look.colours.shape[1], axis=1)
        rows[look.name] = (
            Cell(look.pixels),
            Cell(
                colourise(look.attention, high, ATTENTION_MAP, size),
                f"faithfulness {look.trust.amount:.2f}, {grade(look.trust)}",
            ),
            Cell(colourise(look.norms, highest, NORM_MAP, size), f"largest {look.norms.max():.0f}"),
            Cell(coloured),
        )
    return finish(draw_table(COLUMNS, rows))
