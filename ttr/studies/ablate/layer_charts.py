"""Figures of an ablation by layer and by register: probes, dense tasks, cosines between registers."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import pandas as pd

from ttr.drawing.charts import SERIES, Grid, axis, band, figure, heatmap, interval, line
from ttr.drawing.colours import GREY
from ttr.drawing.tables import printed
from ttr.studies.ablate.task_charts import metric_name
from ttr.wording import p_said

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def probing_curves(probing: pd.DataFrame) -> Figure:
    """Draw a linear probe's accuracy on CLS and on each register, block by block, with 95 % intervals.

    Args:
        probing: columns of :func:`ttr.studies.ablate.analysis_tables.probing`; accuracies 0..1. Dotted:
            chance.
    """
    from plotly.graph_objects import Scatter

    traces = []
    for place, (token, rows) in enumerate(probing.groupby("token", sort=False)):
        rows = rows.sort_values("block")
        blocks = rows["block"].tolist()
        traces += [
            band(
                blocks,
                (100 * rows["ci_low"]).tolist(),
                (100 * rows["ci_high"]).tolist(),
                SERIES[place % len(SERIES)],
                legendgroup=token,
            ),
            line(
                blocks,
                (100 * rows["accuracy"]).tolist(),
                "CLS" if token == "cls" else str(token),
                place,
                legendgroup=token,
                hovertext=[
                    f"<b>{'CLS' if token == 'cls' else token}</b>, block {row.block}<br>"
                    f"{100 * row.accuracy:.1f} %, "
                    f"{interval(100 * row.ci_low, 100 * row.ci_high, '{:.1f}')}, n = {row.n}<br>"
                    f"chance {100 * row.chance:.1f} %: {p_said(row.p_holm, 'Holm')}"
                    for row in rows.itertuples()
                ],
            ),
        ]
    chance = 100 * float(probing["chance"].iloc[0])
    ends = [int(probing["block"].min()), int(probing["block"].max())]
    dotted = {"color": GREY, "dash": "dot", "width": 2}
    traces.append(
        Scatter(
            x=ends,
            y=[chance] * 2,
            name=f"chance, {chance:.1f} %",
            mode="lines",
            line=dotted,
            hoverinfo="skip",
        )
    )
    return _by_block(traces, probing, "probe accuracy, %")


def layer_tasks(layers: pd.DataFrame) -> Figure:
    """Draw the dense tasks on each block's patches, with 95 % intervals.

    Args:
        layers: columns of :func:`ttr.studies.ablate.analysis_tables.layers`; values 0..1.
    """
    traces = []
    for place, ((task, metric), rows) in enumerate(layers.groupby(["task", "metric"], sort=False)):
        rows = rows.sort_values("block")
        blocks, name = rows["block"].tolist(), metric_name(task, metric)
        low, high = (100 * rows["ci_low"]).tolist(), (100 * rows["ci_high"]).tolist()
        traces += [
            band(blocks, low, high, SERIES[place % len(SERIES)], legendgroup=name),
            line(
                blocks,
                (100 * rows["value"]).tolist(),
                name,
                place,
                legendgroup=name,
                hovertext=[
                    f"<b>{name}</b>, block {row.block}<br>{100 * row.value:.1f} %, "
                    f"{interval(100 * row.ci_low, 100 * row.ci_high, '{:.1f}')}, n = {row.n}"
                    for row in rows.itertuples()
                ],
            ),
        ]
    return _by_block(traces, layers, "dense tasks, %")


def _by_block(traces: list, table: pd.DataFrame, label: str) -> Figure:
    blocks = sorted(set(table["block"].tolist()))
    below = axis("block", tickvals=blocks[:: 1 + len(blocks) // 13])
    return figure(traces, height=420, x=below, y=axis(label, range=[0, 102]))


def register_cosines(registers: pd.DataFrame) -> Figure:
    """Draw the cosine between each two registers at the end, the mean over images.

    Args:
        registers: columns of :func:`ttr.studies.ablate.analysis_tables.register_cosines`; -1..1.
    """
    names = list(dict.fromkeys(registers["first"]))
    known = {(row["first"], row["second"]): row for row in registers.to_dict("records")}
    found = [[known.get((first, second)) for second in names] for first in names]

    def hover(cell: dict) -> str:
        return (
            f"<b>{cell['first']}, {cell['second']}</b><br>cosine {printed(cell['cosine'], '{:.4f}')}, "
            f"{interval(cell['ci_low'], cell['ci_high'], '{:.4f}')}, n = {cell['n']}"
        )

    grid = Grid(
        names,
        names,
        found,
        value=itemgetter("cosine"),
        text=lambda cell: f"{cell['cosine']:.3f}",
        hover=hover,
    )
    lowest = min(0.0, float(registers["cosine"].min()))
    return heatmap(grid, unit="cosine", span=(lowest, 1), height=110 + 62 * len(names))
