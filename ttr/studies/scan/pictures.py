"""Figures of a scan: the share of outlier patches by block, a figure a size, a line a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ttr.drawing.charts import SERIES, axis, curve, figure, plain
from ttr.wording import shortened

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SAID: dict[str, Any] = {"quantity": "outlier patches", "pattern": "{:.2f} %"}
DASHES = ("solid", "dash", "dot", "dashdot")


def shares_by_block(table: pd.DataFrame) -> dict[str, Figure]:
    """Draw the outlier share by block in per cent, all figures on one scale.

    Args:
        table: as :func:`ttr.studies.scan.tables.by_block` makes it.
    """
    sizes, models = (list(dict.fromkeys(table[name])) for name in ("size", "model"))
    top = max(1.0, 130 * float(table["outlier_share"].max()))
    drawn = {}
    for size in sizes:
        here = table[table["size"] == size]
        traces: list[Any] = []
        for name, rows in here.groupby("model", sort=False):
            place = models.index(name)
            values, low, high = (
                (100 * rows[each]).tolist() for each in ("outlier_share", "ci_low", "ci_high")
            )
            dash = DASHES[place // len(SERIES) % len(DASHES)]
            called = plain(shortened(str(name), 30))
            blocks = rows["block"].tolist()
            ends = (low, high)
            traces += curve(blocks, values, called, place, ends=ends, **SAID, dash=dash)
        _thinning(traces)
        drawn[f"size-{size}"] = figure(
            traces,
            height=380,
            x=axis("block"),
            y=axis("outlier patches, %", range=[-0.03 * top, top]),
            title={"text": f"{size} px", "font": {"size": 14}, "x": 0.5},
            margin={"t": 64},
        )
    return drawn


def _thinning(traces: list[Any]) -> None:
    """Make lines that lie on each other, as clean models' do, visible: the first is the thickest."""
    lines = [each for each in traces if each.fill is None]
    for place, each in enumerate(lines):
        each.line.width = 1.5 + 3 * (1 - (place + 1) / len(lines))
        each.marker.size = 5 + 2 * each.line.width
