"""Figures of a comparison: curves by block, and what patches and registers hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ttr.drawing.charts import axis, figure, line, plain, rgba
from ttr.drawing.maps import AFTER, BEFORE
from ttr.drawing.norms_and_attention import LARGEST, patches_and_registers
from ttr.studies.compare.comparison import ImageComparison
from ttr.wording import shortened

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
            names = [f"{shortened(c.image)}, {run}" for c in comparisons]
            traces += _thin(lines, names, LARGEST[quantity], colour, run)
            hover = _hover(f"{run}, mean over the images", LARGEST[quantity], mean)
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


def _thin(lines: np.ndarray, names: Sequence[str], quantity: str, colour: str, run: str) -> list:
    """Return a thin line an image, which says whose it is."""
    from plotly.graph_objects import Scatter

    style = {"color": rgba(colour, 0.3), "width": 0.8}
    shared = {"mode": "lines", "line": style, "hoverinfo": "text", "showlegend": False, "legendgroup": run}
    blocks = list(range(lines.shape[1]))
    return [
        Scatter(x=blocks, y=values.tolist(), hovertext=_hover(name, quantity, values), **shared)
        for name, values in zip(names, lines, strict=True)
    ]


def _hover(name: str, quantity: str, values: Sequence[float] | np.ndarray) -> list[str]:
    return [
        f"<b>{plain(name)}</b>, block {block}<br>{quantity} {value:.4g}" for block, value in enumerate(values)
    ]
