"""Figures across models, small ones first: what CLS attends to in the last block, finds there, is made of.

They are those of Lappe and Giese (2025), from the tables that an integration writes. A function returns None
where no model has what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ttr.drawing.charts import axis, figure, interval, line, log_axis, rgba, whiskers
from ttr.drawing.colours import BLUE, GREEN, GREY, ORANGE, VERMILLION
from ttr.drawing.tables import printed
from ttr.studies.integrate.charts import COLOURS, NAMES
from ttr.studies.integrate.token_tables import PATCH, STRONGEST

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PLACE = ["backbone", "num_registers"]
PART_COLOURS = {**COLOURS, "full": ORANGE}
PART_SYMBOLS = {
    "patches": "circle",
    "registers": "square",
    "cls": "triangle-up",
    "skip": "diamond",
    "full": "star",
}
#: A density needs numbers that differ by more than rounding.
FLAT = 1e-4
TOKEN_COLOURS = {STRONGEST: VERMILLION, PATCH: BLUE}


def at_last(table: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Return the rows of each model's last measured block, models in this order."""
    whole = table.part == "full" if "part" in table else pd.Series(False, table.index)
    # What nothing is left out of stands under the model's last block, measured or not.
    measured = table.block.where(~whole).groupby(table.backbone).transform("max")
    last = table[whole | (table.block == measured)]
    place = last.backbone.map({name: place for place, name in enumerate(order)})
    return last.assign(place=place).sort_values(["place", "num_registers"], kind="stable")


def parts_by_model(
    table: pd.DataFrame,
    parts: Sequence[str],
    columns: tuple[str, str, str],
    label: str,
    *,
    quantity: str,
    pattern: str = "{:.3f}",
    chance: bool = False,
) -> Figure | None:
    """Draw a number of some parts, a row a model (and R), with 95 % intervals.

    Args:
        table: of one block a model; in this order from the top.
        parts: which; the others are left out.
        columns: of the number and its interval's ends.
        label: what the number is, on the axis.
        quantity: the same for the pointer, in a word or two.
        pattern: writes the number with its unit.
        chance: mark each row's column ``chance``.
    """
    from plotly.graph_objects import Scatter

    kept = table[table.part.isin(parts) & table[columns[0]].notna()]
    if kept.empty:
        return None
    models = list(kept.groupby(PLACE, sort=False))
    names = [_row_name(place) for place, _ in models]
    shift = np.linspace(-0.2, 0.2, len(parts)) if len(parts) > 1 else (0.0,)
    traces = []
    for part, away in zip(parts, shift, strict=True):
        rows = [
            (place, m[m.part == part].iloc[0]) for place, (_, m) in enumerate(models) if part in set(m.part)
        ]
        if not rows:
            continue
        values, low, high = ([float(row[name]) for _, row in rows] for name in columns)
        colour = PART_COLOURS[part]
        traces.append(
            Scatter(
                x=values,
                y=[place + away for place, _ in rows],
                name=NAMES.get(part, part),
                mode="markers",
                marker={"color": colour, "size": 9, "symbol": PART_SYMBOLS[part]},
                error_x=whiskers(values, low, high, colour),
                hovertext=[
                    f"<b>{names[place]}</b>, {NAMES.get(part, part)}<br>"
                    f"{quantity} {printed(value, pattern)}, {interval(a, b, pattern)}"
                    for (place, _), value, a, b in zip(rows, values, low, high, strict=True)
                ],
                hoverinfo="text",
            )
        )
    if chance:
        levels = [float(m.chance.iloc[0]) for _, m in models]
        style = {"color": GREY, "size": 16, "symbol": "line-ns-open"}
        hover = [
            f"<b>{name}</b>, chance<br>{quantity} {printed(level, pattern)}"
            for name, level in zip(names, levels, strict=True)
        ]
        shared: dict[str, Any] = {"mode": "markers", "hovertext": hover, "hoverinfo": "text"}
        traces.append(Scatter(x=levels, y=list(range(len(names))), name="chance", marker=style, **shared))
    return figure(traces, height=130 + 46 * len(names), x=axis(label, rangemode="tozero"), y=_rows(names))


def shares_by_model(shares: pd.DataFrame, order: Sequence[str]) -> Figure | None:
    """Draw the distribution over images of registers' share of attention, %, a violin a model (and R).

    Args:
        shares: columns of ``shares.csv``, of one block a model.
        order: names of the models from the top; those that have no registers are left out.
    """
    models = [
        ((name, registers), 100 * rows.registers.to_numpy(dtype=float))
        for name in order
        for registers, rows in shares[shares.backbone == name].groupby("num_registers")
    ]
    if not models:
        return None
    names = [_row_name(each) for each, _ in models]
    traces: list[Any] = []
    for place, (_, values) in enumerate(models):
        traces += _violin(place, names[place], values)
    label = "attention to registers, % of that to patches and registers"
    return figure(
        traces, height=130 + 56 * len(names), x=axis(label, range=[0, 100]), y=_rows(names), showlegend=False
    )


def dimensions_by_model(dimensions: pd.DataFrame, order: Sequence[str]) -> dict[str, Figure]:
    """Draw the largest dimensions of the last block's tokens, before and after its norm, two figures a model.

    Args:
        dimensions: columns of ``dimensions.csv``; a token is drawn at the fewest registers that have it.
        order: names of the models from the top.
    """
    fewest = dimensions.groupby(["backbone", "token"]).num_registers.transform("min")
    kept = dimensions[dimensions.num_registers == fewest]
    drawn = {}
    for model, name in enumerate(order):
        for registers, rows in kept[kept.backbone == name].groupby("num_registers"):
            for when in ("before", "after"):
                shown = _dimensions(rows, when, f"{_row_name((name, registers))}: {when} the norm")
                drawn[f"dimensions-{model}-{registers}-{when}"] = shown
    return drawn


def _dimensions(rows: pd.DataFrame, when: str, title: str) -> Figure:
    traces = []
    for place, (token, own) in enumerate(rows.groupby("token", sort=False)):
        known = str(token) in TOKEN_COLOURS
        rank, values = own["rank"].tolist(), own[when].tolist()
        hover = [
            f"<b>{token}</b>, dimension {at}<br>mean |value| {value:.3g}"
            for at, value in zip(rank, values, strict=True)
        ]
        style = {"colour": TOKEN_COLOURS.get(str(token), GREEN), "dash": "solid" if known else "dot"}
        drawn = line(rank, values, str(token), place, hovertext=hover, **style)
        traces.append(drawn.update(mode="lines"))
    return figure(
        traces,
        height=300,
        x=axis("dimension, the largest before the norm first"),
        y=log_axis("mean |value|", rows[when].tolist()),
        title={"text": title, "font": {"size": 13}, "x": 0.5},
        margin={"t": 70},
    )


def _violin(place: int, name: str, values: np.ndarray) -> list[Any]:
    """Return the density of numbers, their median, quartiles, and 2.5th and 97.5th percentile, as traces."""
    from plotly.graph_objects import Scatter
    from scipy.stats import gaussian_kde

    quiet: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip"}
    traces = []
    if np.ptp(values) > FLAT:
        grid = np.linspace(values.min(), values.max(), 100)
        density = gaussian_kde(values)(grid)
        half = 0.4 * density / density.max()
        x, y = np.concatenate([grid, grid[::-1]]), np.concatenate([place - half, (place + half)[::-1]])
        fill = {"fill": "toself", "fillcolor": rgba(VERMILLION, 0.3), "line": {"width": 0}}
        traces.append(Scatter(x=x.tolist(), y=y.tolist(), **fill, **quiet))
    low, first, middle, third, high = np.percentile(values, (2.5, 25, 50, 75, 97.5)).tolist()
    for ends, width in (([low, high], 1), ([first, third], 6)):
        traces.append(Scatter(x=ends, y=[place] * 2, line={"color": VERMILLION, "width": width}, **quiet))
    told = (
        f"<b>{name}</b>, attention to registers<br>"
        f"median {middle:.1f} %, quartiles {first:.1f} to {third:.1f}, 95 % of images {low:.1f} to {high:.1f}"
    )
    dot = {"color": "#fff", "size": 8, "line": {"color": VERMILLION, "width": 2}}
    traces.append(
        Scatter(x=[middle], y=[place], mode="markers", marker=dot, hovertext=told, hoverinfo="text")
    )
    return traces


def _rows(names: Sequence[str]) -> dict[str, Any]:
    """Return an axis of named rows from the top."""
    count = len(names)
    places: dict[str, Any] = {"tickvals": list(range(count)), "ticktext": list(names), "ticksuffix": " "}
    return axis(**places, range=[count - 0.5, -0.5], showgrid=False)


def _row_name(names: tuple[Any, ...]) -> str:
    return f"{names[0]}, R = {names[1]}" if names[1] else str(names[0])
