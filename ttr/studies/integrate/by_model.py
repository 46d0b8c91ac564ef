"""Figures across models, small ones first: what CLS attends to in the last block, finds there, is made of.

They are those of Lappe and Giese (2025), from the tables that an integration writes. Every function returns a
data URI, or an empty string where no model has what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.drawing.colours import BLUE, GREEN, GREY, ORANGE, VERMILLION
from ttr.drawing.maps import finish
from ttr.studies.integrate.pictures import COLOURS, MARKERS
from ttr.studies.integrate.token_tables import PATCH, STRONGEST

PLACE = ["backbone", "num_registers"]
PART_COLOURS = {**COLOURS, "full": ORANGE}
PART_MARKERS = {**MARKERS, "full": "*"}
#: A density needs numbers that differ by more than rounding.
FLAT = 1e-6
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
    table: pd.DataFrame, parts: Sequence[str], columns: tuple[str, str, str], label: str, chance: bool = False
) -> str:
    """Draw a number of some parts, a row a model (and R), with 95 % intervals.

    Args:
        table: of one block a model; in this order from the top.
        parts: which; the others are left out.
        columns: of the number and its interval's ends.
        label: what the number is.
        chance: mark each row's column ``chance``.
    """
    from matplotlib.figure import Figure

    kept = table[table.part.isin(parts) & table[columns[0]].notna()]
    if kept.empty:
        return ""
    models = list(kept.groupby(PLACE, sort=False))
    figure = Figure(figsize=(9.2, 1.1 + 0.42 * len(models)), layout="constrained")
    axis = figure.subplots()
    shift = np.linspace(-0.2, 0.2, len(parts)) if len(parts) > 1 else (0.0,)
    for part, away in zip(parts, shift, strict=True):
        rows = [
            (place, m[m.part == part].iloc[0])
            for place, (_, m) in enumerate(models)
            if (m.part == part).any()
        ]
        if not rows:
            continue
        values, low, high = (np.array([row[name] for _, row in rows], dtype=float) for name in columns)
        around = np.nan_to_num(np.abs([values - low, high - values]))
        axis.errorbar(
            values, [place + away for place, _ in rows], xerr=around, label=part, linestyle="none", capsize=2,
            color=PART_COLOURS[part], marker=PART_MARKERS[part], markersize=5,
        )  # fmt: skip
    if chance:
        levels = [m.chance.iloc[0] for _, m in models]
        axis.plot(levels, range(len(models)), "|", color=GREY, markersize=14, label="chance")
    axis.set(xlabel=label, xlim=(min(0.0, axis.get_xlim()[0]), None))
    _name_rows(axis, [names for names, _ in models])
    axis.legend(frameon=False, ncols=5, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    return finish(figure)


def shares_by_model(shares: pd.DataFrame, order: Sequence[str]) -> str:
    """Draw the distribution over images of registers' share of attention, a violin a model (and R).

    Args:
        shares: columns of ``shares.csv``, of one block a model.
        order: names of the models from the top; those that have no registers are left out.
    """
    from matplotlib.figure import Figure

    models = [
        ((name, registers), rows.registers.to_numpy(dtype=float))
        for name in order
        for registers, rows in shares[shares.backbone == name].groupby("num_registers")
    ]
    if not models:
        return ""
    figure = Figure(figsize=(9.2, 1.1 + 0.5 * len(models)), layout="constrained")
    axis = figure.subplots()
    for place, (_, values) in enumerate(models):
        _violin(axis, place, values)
    axis.set(
        xlim=(0, 1), xlabel="attention to registers, of that to patches and registers (the rest: patches)"
    )
    _name_rows(axis, [names for names, _ in models])
    return finish(figure)


def dimensions_by_model(dimensions: pd.DataFrame, order: Sequence[str]) -> str:
    """Draw the largest dimensions of the last block's tokens, before and after its norm, a row a model.

    Args:
        dimensions: columns of ``dimensions.csv``; a token is drawn at the fewest registers that have it.
        order: names of the models from the top.
    """
    from matplotlib.figure import Figure

    fewest = dimensions.groupby(["backbone", "token"]).num_registers.transform("min")
    kept = dimensions[dimensions.num_registers == fewest]
    models = [
        ((name, registers), rows)
        for name in order
        for registers, rows in kept[kept.backbone == name].groupby("num_registers")
    ]
    if not models:
        return ""
    figure = Figure(figsize=(9.2, 2.0 * len(models)), layout="constrained")
    for (names, rows), axes in zip(models, figure.subplots(len(models), 2, squeeze=False), strict=True):
        for token, of_token in rows.groupby("token", sort=False):
            for when, axis in zip(("before", "after"), axes, strict=True):
                colour, line = TOKEN_COLOURS.get(str(token), GREEN), "-" if token in TOKEN_COLOURS else ":"
                axis.plot(of_token["rank"], of_token[when], line, color=colour, linewidth=1.3, label=token)
                axis.set_title(f"{_row_name(names)}: {when} the norm", fontsize=8)
                axis.set_yscale("log")
                axis.spines[["top", "right"]].set_visible(False)
        axes[0].legend(frameon=False, fontsize=7)
        axes[0].set_ylabel("mean |value|", fontsize=8)
    for axis in figure.axes[-2:]:
        axis.set_xlabel("dimension, the largest before the norm first", fontsize=8)
    return finish(figure)


def _violin(axis: Any, place: int, values: np.ndarray) -> None:
    """Draw the density of numbers in 0..1, their median, quartiles, and 2.5th and 97.5th percentile."""
    from scipy.stats import gaussian_kde

    if np.ptp(values) > FLAT:
        grid = np.linspace(values.min(), values.max(), 200)
        density = gaussian_kde(values)(grid)
        half = 0.4 * density / density.max()
        axis.fill_between(grid, place - half, place + half, color=VERMILLION, alpha=0.3, linewidth=0)
    low, first, middle, third, high = np.percentile(values, (2.5, 25, 50, 75, 97.5))
    axis.hlines(place, low, high, color=VERMILLION, linewidth=1)
    axis.hlines(place, first, third, color=VERMILLION, linewidth=5)
    axis.plot(middle, place, "o", color="white", markeredgecolor=VERMILLION, markersize=5)


def _name_rows(axis: Any, names: Sequence[tuple[Any, ...]]) -> None:
    axis.set_yticks(range(len(names)), [_row_name(each) for each in names], fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.spines[["top", "right"]].set_visible(False)


def _row_name(names: tuple[Any, ...]) -> str:
    return f"{names[0]}, R = {names[1]}" if names[1] else str(names[0])
