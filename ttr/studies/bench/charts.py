"""Figure of a benchmark: the differences between arms, with intervals around nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ttr.drawing.charts import axis, figure, interval, whiskers
from ttr.drawing.colours import BLUE, GREY, ORANGE
from ttr.drawing.tables import printed
from ttr.statistics.verdict import TOLD, said
from ttr.wording import p_said

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def differences(comparisons: pd.DataFrame) -> Figure:
    """Draw each difference with its 95 % interval, filled where it is distinguishable from zero.

    Args:
        comparisons: rows of one metric, columns of :func:`ttr.studies.bench.tables.comparisons`; shares.
            Blue: heads trained on the bare model; orange: on the arm.
    """
    from plotly.graph_objects import Scatter

    traces = []
    for deployed, colour, symbol, name in (
        (False, ORANGE, "circle", "head trained on the arm"),
        (True, BLUE, "square", "head of the bare model"),
    ):
        here = comparisons[comparisons["head"].str.endswith(":plain") == deployed]
        if here.empty:
            continue
        rows = here.to_dict("records")
        traces.append(
            Scatter(
                x=[100 * row["difference"] for row in rows],
                y=[_name(row) for row in rows],
                name=name,
                mode="markers",
                marker={
                    "color": colour,
                    "size": 10,
                    "line": {"color": colour, "width": 2},
                    "symbol": [symbol if row["verdict"] in TOLD else f"{symbol}-open" for row in rows],
                },
                error_x=whiskers(
                    [100 * row["difference"] for row in rows],
                    [100 * row["ci_low"] for row in rows],
                    [100 * row["ci_high"] for row in rows],
                    colour,
                ),
                hovertext=[_hover(row) for row in rows],
                hoverinfo="text",
            )
        )
    return figure(
        traces,
        height=130 + 30 * comparisons.apply(_name, axis=1).nunique(),
        x=axis("first minus second, points", zeroline=True, zerolinecolor=GREY),
        y=axis(autorange="reversed", ticksuffix=" "),
    )


def _name(row: dict) -> str:
    parts = [f"{row['first']} − {row['second']}", str(row["head"])]
    if row["feature"] != "embedding":
        parts.append(str(row["feature"]))
    if row["num_registers"] > 1:
        parts.append(f"R = {row['num_registers']}")
    return ", ".join(parts)


def _hover(row: dict) -> str:
    ends = interval(100 * row["ci_low"], 100 * row["ci_high"], "{:+.2f}")
    return (
        f"<b>{_name(row)}</b>, {row['metric']}<br>"
        f"{printed(row['difference'], '{:+.2f} points', 100)}, {ends}, n = {row['n']}<br>"
        f"{p_said(row['p_holm'], 'Holm')}: {said(row)}"
    )
