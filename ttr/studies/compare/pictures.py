"""Figures of a comparison: curves by block, and what patches and registers hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ttr.drawing.charts import axis, figure, line, rgba
from ttr.drawing.maps import AFTER, BEFORE
from ttr.drawing.norms_and_attention import LARGEST, patches_and_registers
from ttr.studies.compare.comparison import ImageComparison

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def layer_curves(comparisons: Sequence[ImageComparison]) -> dict[str, Figure]:
    """Draw the largest patch norm and the largest CLS attention by block, before and after.

    Thick lines are means over the images, thin lines single images.
    """
    drawn = {}
    for quantity, name in (("norms", "max_patch_norm"), ("attention", "max_patch_attention")):
        traces = []
        for place, (run, colour) in enumerate((("before", BEFORE), ("after", AFTER))):
            lines = np.array([getattr(getattr(c, run).curves, name) for c in comparisons], dtype=float)
            blocks, mean = list(range(lines.shape[1])), lines.mean(axis=0).tolist()
            traces += _thin(lines, blocks, colour, run)
            hover = [f"<b>{run}</b>, block {b}<br>mean {m:.4g}" for b, m in zip(blocks, mean, strict=True)]
            traces.append(line(blocks, mean, run, place, colour=colour, hovertext=hover, legendgroup=run))
        drawn[f"curves-{quantity}"] = figure(
            traces, height=340, x=axis("block"), y=axis(LARGEST[quantity], rangemode="tozero")
        )
    return drawn


def distributions(comparisons: Sequence[ImageComparison]) -> dict[str, Figure]:
    """Draw norms and CLS attention of patches and registers at the last block, after."""

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(each.after.maps, name).ravel() for each in comparisons])

    drawn = patches_and_registers(
        (all_of("norms"), all_of("register_norms")), (all_of("attention"), all_of("register_attention"))
    )
    return {f"tokens-{quantity}": shown for quantity, shown in drawn.items()}


def _thin(lines: np.ndarray, blocks: list[int], colour: str, run: str) -> list:
    """Return a thin line an image, without a hover of its own."""
    from plotly.graph_objects import Scatter

    style = {"color": rgba(colour, 0.3), "width": 0.8}
    shared = {"mode": "lines", "line": style, "hoverinfo": "skip", "showlegend": False, "legendgroup": run}
    return [Scatter(x=blocks, y=values.tolist(), **shared) for values in lines]
