"""Figures of an ablation's tasks: conditions x metrics, single against collective zeroing, two models.

Each takes a table as :mod:`ttr.studies.ablate.tables` makes it (or as read back from its CSV file) and
returns a plotly figure whose hover says the exact value, its interval, the test and what the difference comes
to. The page and the application show the same figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ttr.drawing.charts import (
    CHANGE_MAP,
    SUBSTITUTE_COLOURS,
    VALUE_MAP,
    Grid,
    axis,
    figure,
    heatmap,
    interval,
    substitute_of,
)
from ttr.drawing.colours import GREY, VERMILLION
from ttr.drawing.tables import printed
from ttr.statistics.verdict import TOLD, said
from ttr.wording import p_said

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

METRIC_NAMES = {
    ("probe", "top1"): "probe",
    ("probe", "top1_own"): "own probe",
    ("knn", "recall_at_1"): "recall@1",
    ("knn", "knn_accuracy"): "k-NN",
    ("correspondence", "pck_0.1"): "PCK@0.1",
    ("correspondence", "nearest_patch"): "nearest patch",
    ("segmentation", "miou"): "mIoU",
    ("oneshot", "accuracy"): "one-shot",
}


def metric_name(task: str, metric: str) -> str:
    """Return a metric's short name for people."""
    return METRIC_NAMES.get((task, metric), f"{task} {metric}")


def ablation_heatmap(results: pd.DataFrame, *, change: bool = False) -> Figure:
    """Draw conditions x metrics, in per cent, or the change from ``full`` in points.

    Args:
        results: columns of :func:`ttr.studies.ablate.tables.results`; values 0..1.
        change: colour and print the change from ``full``. Bold: distinguishable from no change.
    """
    places = list(dict.fromkeys(zip(results["task"], results["metric"], strict=True)))
    conditions = list(dict.fromkeys(results["condition"]))
    known = {(r["condition"], r["task"], r["metric"]): r for r in results.to_dict("records")}
    found = [[known.get((condition, *place)) for place in places] for condition in conditions]
    quantity = "delta" if change else "value"
    grid = Grid(
        [metric_name(*place) for place in places],
        conditions,
        found,
        value=lambda cell: 100 * cell[quantity],
        text=lambda cell: _printed(cell, change),
        hover=_hover,
        nothing="not measured",
    )
    values = [v for row in grid.each(grid.value, None) for v in row if v is not None and v == v]
    reach = max([abs(value) for value in values] or [1]) or 1
    return heatmap(
        grid,
        unit="points" if change else "%",
        span=(-reach, reach) if change else (0, 100),
        height=110 + 30 * len(conditions),
        colours=CHANGE_MAP if change else VALUE_MAP,
        gap=2,
    )


def _printed(cell: dict[str, Any], change: bool) -> str:
    if cell["value"] != cell["value"]:
        return "–"
    if not change:
        return f"{100 * cell['value']:.1f}"
    if cell["condition"] == "full" or cell["delta"] != cell["delta"]:
        return "–"
    text = signed(cell["delta"])
    return f"<b>{text}</b>" if cell["verdict"] in TOLD else text


def signed(share: float) -> str:
    """Return a change of a share in points with its sign; never a negative nothing."""
    return printed(share, "{:+.1f}", 100)


def _hover(cell: dict[str, Any]) -> str:
    name = metric_name(cell["task"], cell["metric"])
    lines = [
        f"<b>{cell['condition']}</b>, {name}",
        f"{100 * cell['value']:.2f} %, "
        f"{interval(100 * cell['ci_low'], 100 * cell['ci_high'], '{:.2f}')}, n = {cell['n']}",
    ]
    if cell["condition"] != "full":
        if cell["delta"] != cell["delta"]:
            lines.append("cannot be compared with full")
        else:
            ends = interval(100 * cell["delta_ci_low"], 100 * cell["delta_ci_high"], "{:+.2f}")
            lines += [
                f"change {printed(cell['delta'], '{:+.2f} points', 100)}, {ends}",
                f"{p_said(cell['p_holm'], 'Holm')}: {said(cell)}",
            ]
    return "<br>".join(lines)


def additivity_bars(additivity: pd.DataFrame, registers: str, task: str, metric: str) -> Figure:
    """Draw what zeroing each register costs, their sum, all at once, and the excess, with 95 % intervals.

    Args:
        additivity: columns of :func:`ttr.studies.ablate.tables.additivities`.
        registers: ``registers`` or ``test-time``.
        task: one of its tasks.
        metric: one of the task's metrics.
    """
    from plotly.graph_objects import Bar

    table = additivity
    here = (table["registers"] == registers) & (table["task"] == task) & (table["metric"] == metric)
    rows = table[here].to_dict("records")
    names = {"sum": "sum of single ones", "collective": "all at once", "excess": "all − sum"}
    colours = {
        "sum": SUBSTITUTE_COLOURS["mean"],
        "collective": VERMILLION,
        "excess": SUBSTITUTE_COLOURS["shuffle"],
    }
    bars = Bar(
        y=[names.get(row["term"], row["term"].removesuffix(":zero")) for row in rows],
        x=[100 * row["value"] for row in rows],
        orientation="h",
        marker={"color": [colours.get(row["term"], GREY) for row in rows]},
        error_x=_errors(rows, "value", "ci_low", "ci_high"),
        hovertext=[
            f"<b>{names.get(row['term'], row['term'])}</b>, {metric_name(task, metric)}<br>"
            f"{printed(row['value'], '{:+.2f} points', 100)}, "
            f"{interval(100 * row['ci_low'], 100 * row['ci_high'], '{:+.2f}')}<br>{p_said(row['p'])}"
            for row in rows
        ],
        hoverinfo="text",
    )
    return figure(
        [bars],
        height=90 + 34 * len(rows),
        x=axis("change from full, points", zeroline=True, zerolinecolor=GREY),
        y=axis(autorange="reversed", showgrid=False, ticks="", ticksuffix=" "),
        showlegend=False,
    )


def effects_between(effects: pd.DataFrame, task: str, metric: str) -> Figure:
    """Draw each condition's effect in two models side by side, with 95 % intervals.

    Args:
        effects: columns of :func:`ttr.studies.ablate.between.effects`, of one pair of models.
        task: one of its tasks.
        metric: one of the task's metrics.
    """
    from plotly.graph_objects import Scatter

    rows = effects[(effects["task"] == task) & (effects["metric"] == metric)].to_dict("records")
    traces = []
    for place, (side, colour) in enumerate((("a", VERMILLION), ("b", SUBSTITUTE_COLOURS["mean"]))):
        traces.append(
            Scatter(
                x=[100 * row[f"effect_{side}"] for row in rows],
                y=[row["condition"] for row in rows],
                name=rows[0][f"model_{side}"] if rows else side,
                mode="markers",
                orientation="h",
                offsetgroup=side,
                marker={"color": colour, "size": 10, "symbol": ("circle", "diamond")[place]},
                error_x=_errors(rows, f"effect_{side}", f"{side}_ci_low", f"{side}_ci_high", colour),
                hovertext=[
                    f"<b>{row['condition']}</b>, {row[f'model_{side}']}<br>"
                    f"{printed(row[f'effect_{side}'], '{:+.2f} points', 100)}, "
                    f"{interval(100 * row[f'{side}_ci_low'], 100 * row[f'{side}_ci_high'], '{:+.2f}')}<br>"
                    f"between models: {printed(row['difference'], '{:+.2f} points', 100)}, "
                    f"{p_said(row['p_holm'], 'Holm')}: {said(row)}"
                    for row in rows
                ],
                hoverinfo="text",
            )
        )
    return figure(
        traces,
        height=130 + 34 * len(rows),
        x=axis("change from full, points", zeroline=True, zerolinecolor=GREY),
        y=axis(autorange="reversed", ticksuffix=" "),
        scattermode="group",
        scattergap=0.4,
    )


def _errors(
    rows: list[dict[str, Any]], value: str, low: str, high: str, colour: str = GREY
) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (row[high] - row[value]) for row in rows],
        "arrayminus": [100 * (row[value] - row[low]) for row in rows],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def condition_colour(condition: str) -> str:
    """Return the colour of a condition's substitute."""
    return SUBSTITUTE_COLOURS.get(substitute_of(condition), GREY)
