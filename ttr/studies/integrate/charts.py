"""Figure of an integration: which part of the model makes the image's feature, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ttr.analysis.faithfulness import FAITHFUL, PARTLY
from ttr.drawing.charts import axis, band, figure, interval, line
from ttr.drawing.colours import GREY
from ttr.studies.integrate.pictures import COLOURS, ENDS, LABELS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NAMES = {"patches": "patches", "registers": "registers", "cls": "CLS", "skip": "skip connection"}


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
    low, high = ENDS[quantity]
    traces = []
    for place, (part, rows) in enumerate(here.groupby("part", sort=False)):
        rows = rows.sort_values("block")
        blocks, colour, name = rows["block"].tolist(), COLOURS[str(part)], NAMES[str(part)]
        traces += [
            band(blocks, rows[low].tolist(), rows[high].tolist(), colour, legendgroup=name),
            line(
                blocks,
                rows[quantity].tolist(),
                name,
                place,
                colour=colour,
                legendgroup=name,
                hovertext=[
                    f"<b>{name} alone</b>, block {row['block']}<br>{quantity} {row[quantity]:.4f}, "
                    f"{interval(row[low], row[high], '{:.4f}')}, n = {row['images']}"
                    for row in rows.to_dict("records")
                ],
            ),
        ]
    blocks = sorted(set(here["block"].tolist()))
    below = axis("block", tickvals=blocks[:: 1 + len(blocks) // 13])
    shown = figure(traces, height=420, x=below, y=axis(LABELS[quantity]))
    if quantity == "centred":
        for level, name in ((FAITHFUL, "may be faithful from here"), (PARTLY, "not faithful below")):
            shown.add_hline(
                level, line={"color": GREY, "dash": "dot", "width": 1}, annotation_text=name,
                annotation_font_size=11,
            )  # fmt: skip
    return shown
