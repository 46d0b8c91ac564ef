"""Figures of an integration: which part of the model makes the image's feature, by block and register."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ttr.analysis.faithfulness import FAITHFUL, PARTLY
from ttr.drawing.charts import axis, curve, figure
from ttr.drawing.colours import BLUE, GREEN, GREY, VERMILLION

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = {"patches": BLUE, "registers": VERMILLION, "cls": GREEN, "skip": GREY}
NAMES = {"patches": "patches", "registers": "registers", "cls": "CLS", "skip": "skip connection"}
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
ALONG = {"block": ("block", "block"), "num_registers": ("R (test-time registers; 0: bare model)", "R =")}
LEVELS = ((FAITHFUL, "may be faithful from here"), (PARTLY, "not faithful below"))


def faithfulness_by_block(
    table: pd.DataFrame, backbone: str, num_registers: int, quantity: str = "centred"
) -> Figure:
    """Draw a cosine or CKA of each part with the model's own feature by block, with 95 % intervals.

    Args:
        table: columns of :mod:`ttr.studies.integrate.tables`.
        backbone: one of its models.
        num_registers: one of its numbers of registers; 0 is the bare model.
        quantity: ``centred`` (-1..1; that of the patches is the map's faithfulness), ``cosine`` (the plain
            one) or ``cka`` (0..1).
    """
    here = table[(table["backbone"] == backbone) & (table["num_registers"] == num_registers)]
    return parts_along(here, "block", quantity)


def parts_along(table: pd.DataFrame, along: str, quantity: str) -> Figure:
    """Draw a quantity of each part along ``block`` or ``num_registers``, of rows that share the other."""
    low, high = ENDS[quantity]
    label, called = ALONG[along]
    traces: list[Any] = []
    for place, (part, rows) in enumerate(table.groupby("part", sort=False)):
        rows = rows.sort_values(along)
        traces += curve(
            rows[along].tolist(),
            rows[quantity].tolist(),
            NAMES[str(part)],
            place,
            ends=(rows[low].tolist(), rows[high].tolist()),
            along=called,
            quantity=LABELS[quantity],
            pattern="{:.4f}",
            colour=COLOURS[str(part)],
        )
    places = sorted(set(table[along].tolist()))
    below = axis(label, tickvals=places[:: 1 + len(places) // 13])
    shown = figure(traces, height=420, x=below, y=axis(LABELS[quantity]))
    for level, name in LEVELS if quantity == "centred" else ():
        shown.add_hline(
            level, line={"color": GREY, "dash": "dot", "width": 1}, annotation_text=name,
            annotation_font_size=11,
        )  # fmt: skip
    return shown


def attention_by_model(table: pd.DataFrame) -> Figure:
    """Draw the attention of CLS to patches, registers and itself, %, a bar a model, small ones first."""
    from plotly.graph_objects import Bar

    models = table.sort_values("parameters").backbone.drop_duplicates().tolist()
    names = [_with_size(table, model) for model in models]
    traces = []
    for part in ("patches", "registers", "cls"):
        of_part = table[table.part == part].groupby("backbone").attention_share.sum()
        shares = [100 * float(of_part.get(model, 0.0)) for model in models]
        hover = [f"<b>{name}</b><br>{NAMES[part]}: {s:.1f} %" for name, s in zip(names, shares, strict=True)]
        style = {"marker": {"color": COLOURS[part]}, "hovertext": hover, "hoverinfo": "text"}
        traces.append(Bar(y=names, x=shares, name=NAMES[part], orientation="h", **style))
    return figure(
        traces,
        height=130 + 40 * len(models),
        x=axis("attention of CLS, %, mean of heads and images", range=[0, 100]),
        y=axis(autorange="reversed", ticksuffix=" ", showgrid=False),
        barmode="stack",
    )


def _with_size(table: pd.DataFrame, model: str) -> str:
    return f"{model}, {table.loc[table.backbone == model, 'parameters'].iloc[0] / 1e6:.1f} M"


def cls_path(layers: pd.DataFrame) -> Figure:
    """Draw the cosine of CLS behind each block with CLS behind the last, a line a model and R."""
    from plotly.colors import sample_colorscale

    lines = list(layers.groupby(["backbone", "num_registers"], sort=False))
    several = layers.backbone.nunique() > 1
    shades = sample_colorscale("Viridis", np.linspace(0, 0.85, len(lines)), colortype="tuple")
    traces: list[Any] = []
    for place, (shade, ((model, registers), rows)) in enumerate(zip(shades, lines, strict=True)):
        name = f"R = {registers}" + (f", {model}" if several else "")
        colour = "#" + "".join(f"{round(255 * each):02x}" for each in shade)
        ends = (rows.ci_low.tolist(), rows.ci_high.tolist())
        style = {"quantity": "cosine", "colour": colour}
        traces += curve(rows.block.tolist(), rows.cosine.tolist(), name, place, ends=ends, **style)
    blocks = sorted(set(layers.block.tolist()))
    below = axis("block", tickvals=blocks[:: 1 + len(blocks) // 12])
    return figure(traces, height=400, x=below, y=axis("cosine of CLS with the last block's"))
