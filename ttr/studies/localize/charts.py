"""Figures of a localisation: how much of each map lies in the outlines, what following and forgetting do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ttr.drawing.charts import SERIES, SYMBOLS, axis, figure, interval, line, whiskers
from ttr.drawing.colours import GREY
from ttr.evaluate.insertion import SHARES
from ttr.evaluate.randomisation import UNCHANGED
from ttr.studies.localize.localisation import NO_METHOD, RANDOM_MAP, Localisation
from ttr.studies.localize.pictures import shown_arms
from ttr.studies.localize.sentences import TOLD_OF

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def scores(table: pd.DataFrame) -> Figure:
    """Draw each arm's and method's share of the map in the outline, in per cent, beside a random map's.

    Args:
        table: as :func:`ttr.studies.localize.tables.localisation` makes it.
    """
    from plotly.graph_objects import Scatter

    rows = table[(table.metric == TOLD_OF) & (table.method != NO_METHOD)]
    traces = []
    for place, (arm, own) in enumerate(rows.groupby("arm", sort=False)):
        colour = SERIES[place % len(SERIES)]
        values, low, high = ((100 * own[name]).tolist() for name in ("value", "ci_low", "ci_high"))
        traces.append(
            Scatter(
                x=values,
                y=own.method.tolist(),
                name=str(arm),
                mode="markers",
                orientation="h",
                offsetgroup=str(arm),
                marker={"color": colour, "size": 9, "symbol": SYMBOLS[place % len(SYMBOLS)]},
                error_x=whiskers(values, low, high, colour),
                hovertext=[
                    f"<b>{arm}</b>, {method}<br>{value:.1f} %, {interval(a, b, '{:.1f}')}"
                    for method, value, a, b in zip(own.method, values, low, high, strict=True)
                ],
                hoverinfo="text",
            )
        )
    shown = figure(
        traces,
        height=150 + 24 * len(rows),
        x=axis("energy of the map in the outline, %", rangemode="tozero"),
        y=axis(autorange="reversed", ticksuffix=" ", type="category"),
        scattermode="group",
    )
    chance = 100 * float(rows["baseline"].iloc[0])
    dotted = {"color": GREY, "dash": "dot", "width": 1.5}
    shown.add_vline(chance, line=dotted, annotation_text="random map", annotation_position="top right")
    return shown


def curve_charts(found: Localisation, methods: Sequence[str]) -> dict[str, Figure]:
    """Draw insertion and deletion, a figure a curve, a line a method; probabilities in per cent.

    Solid: the last of :func:`shown_arms`; dashed: the first; dots: a random map under the last.
    """
    shown = shown_arms(found)
    along = [100 * share for share in SHARES]
    drawn = {}
    for place, name in enumerate(found.curve_names):
        traces = []
        for arm in shown:
            for at, method in enumerate(methods):
                values = (100 * found.curves[arm, method][:, place].mean(axis=0)).tolist()
                dash = "solid" if arm == shown[-1] else "dash"
                traces.append(_followed(along, values, f"{method}, {arm}", at, dash=dash))
        chance = (100 * found.curves[shown[-1], RANDOM_MAP][:, place].mean(axis=0)).tolist()
        called = f"random map, {shown[-1]}"
        traces.append(_followed(along, chance, called, len(methods), dash="dot", colour=GREY))
        drawn[f"curve-{name}"] = figure(
            traces,
            height=380,
            x=axis("patches, %"),
            y=axis("probability of the label, %", range=[0, 102]),
            title={"text": name.replace("_", ", "), "font": {"size": 14}, "x": 0.5},
            margin={"t": 80},
        )
    return drawn


def cascade_chart(table: pd.DataFrame) -> Figure:
    """Draw how like maps stay as blocks are shuffled, a line a method and arm.

    Solid: the last arm; dashed: the first.
    """
    last = table["arm"].iloc[-1]
    traces = []
    for place, (method, rows) in enumerate(table.groupby("method", sort=False)):
        for arm, own in rows.groupby("arm", sort=False):
            blocks, values = own.blocks.tolist(), own.correlation.tolist()
            hover = [
                f"<b>{method}, {arm}</b><br>{block} blocks shuffled: {value:.3f}"
                for block, value in zip(blocks, values, strict=True)
            ]
            dash = "solid" if arm == last else "dash"
            traces.append(line(blocks, values, f"{method}, {arm}", place, dash=dash, hovertext=hover))
    shown = figure(
        traces, height=420, x=axis("shuffled blocks, from the last on"), y=axis("rank correlation")
    )
    shown.add_hline(UNCHANGED, line={"color": GREY, "dash": "dot", "width": 1.5})
    return shown


def _followed(x: list[float], y: list[float], name: str, place: int, **style: Any) -> Any:
    hover = [f"<b>{name}</b><br>{a:.0f} % of the patches: {b:.1f} %" for a, b in zip(x, y, strict=True)]
    return line(x, y, name, place, hovertext=hover, **style)
