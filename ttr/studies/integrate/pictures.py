"""Figures of an integration: how faithful the map is by registers and by block, and where attention goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ttr.drawing.colours import BLUE, GREEN, GREY, VERMILLION
from ttr.drawing.maps import finish

COLOURS = {"patches": BLUE, "registers": VERMILLION, "cls": GREEN, "skip": GREY}
MARKERS = {"patches": "o", "registers": "s", "cls": "^", "skip": "D"}
LABELS = {
    "centred": "centred cosine with the model's own feature",
    "cosine": "cosine with the model's own feature",
    "cka": "linear CKA with the model's own feature",
}
ENDS = {
    "centred": ("centred_low", "centred_high"),
    "cosine": ("cosine_low", "cosine_high"),
    "cka": ("ci_low", "ci_high"),
}


def curves(table: pd.DataFrame, along: str) -> str:
    """Draw centred cosine and CKA of each part against ``num_registers`` or ``block``, as a data URI.

    Shaded: 95 % interval over images. The table's other place must be the same in all rows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.4), layout="constrained")
    for axis, quantity in zip(figure.subplots(1, 2), ("centred", "cka"), strict=True):
        for part, rows in table.groupby("part", sort=False):
            rows = rows.sort_values(along)
            style: dict[str, Any] = {"color": COLOURS[part], "marker": MARKERS[part], "label": part}
            axis.plot(rows[along], rows[quantity], **style)
            low, high = (rows[end].to_numpy(float) for end in ENDS[quantity])
            axis.fill_between(rows[along], low, high, color=COLOURS[part], alpha=0.2, linewidth=0)
        label = "R (test-time registers; 0: bare model)" if along == "num_registers" else "block"
        axis.set(xlabel=label, ylabel=LABELS[quantity], ylim=(min(0, axis.get_ylim()[0]), 1.02))
        places = sorted(set(table[along]))
        axis.set_xticks(places[:: 1 + len(places) // 12])
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, title="made of", fontsize=8)
    return finish(figure)


def attention_by_model(table: pd.DataFrame) -> str:
    """Draw the attention of CLS to patches, registers and itself, a bar a model, small ones first."""
    from matplotlib.figure import Figure

    models = table.sort_values("parameters").backbone.drop_duplicates().tolist()
    figure = Figure(figsize=(9.2, 1.0 + 0.45 * len(models)), layout="constrained")
    axis = figure.subplots()
    for place, model in enumerate(reversed(models)):
        rows, left = table[table.backbone == model], 0.0
        for part in ("patches", "registers", "cls"):
            share = float(rows.loc[rows.part == part, "attention_share"].sum())
            axis.barh(place, share, left=left, color=COLOURS[part], label=part if not place else None)
            left += share
    axis.set_yticks(range(len(models)), [_with_size(table, model) for model in reversed(models)], fontsize=8)
    axis.set(xlabel="attention of CLS, mean of heads and images", xlim=(0, 1))
    axis.legend(frameon=False, ncols=3, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    axis.spines[["top", "right"]].set_visible(False)
    return finish(figure)


def _with_size(table: pd.DataFrame, model: str) -> str:
    return f"{model}, {table.loc[table.backbone == model, 'parameters'].iloc[0] / 1e6:.1f} M"


def cls_path(layers: pd.DataFrame) -> str:
    """Draw the cosine of CLS behind each block with CLS behind the last, a line a model and R."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axis = figure.subplots()
    lines = list(layers.groupby(["backbone", "num_registers"], sort=False))
    several = layers.backbone.nunique() > 1
    for shade, ((model, registers), rows) in zip(np.linspace(0, 0.85, len(lines)), lines, strict=True):
        name = f"R = {registers}" + (f", {model}" if several else "")
        colour = matplotlib.colormaps["viridis"](shade)
        axis.plot(rows.block, rows.cosine, marker="o", markersize=3, color=colour, label=name)
        axis.fill_between(rows.block, rows.ci_low, rows.ci_high, color=colour, alpha=0.2, linewidth=0)
    blocks = sorted(set(layers.block))
    axis.set(
        xlabel="block", ylabel="cosine of CLS with the last block's", xticks=blocks[:: 1 + len(blocks) // 12]
    )
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return finish(figure)
