"""Figures of the benchmark: differences with their intervals, and who is taken for whom."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttr.drawing.maps import AFTER, BEFORE, finish
from ttr.evaluate.metrics import confusion
from ttr.statistics.verdict import TOLD
from ttr.studies.bench.benchmark import Benchmark


def forest(table: Any) -> str:
    """Draw the top1 differences of a comparisons table with their 95 % intervals, a row each, as a data URI.

    Filled: higher or lower after correction. Hollow: equivalent, or not distinguishable.
    """
    from matplotlib.figure import Figure

    rows = list(table.itertuples())
    figure = Figure(figsize=(9, 1.1 + 0.27 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        colour = AFTER if row.head.endswith(":plain") else BEFORE
        axis.plot([100 * row.ci_low, 100 * row.ci_high], [place, place], color=colour, linewidth=2)
        fill = colour if row.verdict in TOLD else "white"
        axis.plot(100 * row.difference, place, "o", color=colour, markerfacecolor=fill)
    axis.axvline(0, color="black", linewidth=0.8)
    several = len({row.feature for row in rows}) > 1
    labels = [
        f"{row.first} - {row.second}, {row.head}"
        + (f", R = {row.num_registers}" if row.num_registers else "")
        + (f", {row.feature}" if several else "")
        for row in reversed(rows)
    ]
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.set_xlabel("difference in top1, percentage points, 95 % interval over test images")
    axis.spines[["top", "right"]].set_visible(False)
    return finish(figure)


def confusions(bench: Benchmark, most: int = 4) -> str:
    """Draw the confusion matrices of the first head of up to ``most`` arms on one scale, as a data URI.

    Rows are the truth, columns the predictions; a row's shares sum to 1.
    """
    from matplotlib.figure import Figure

    first = bench.outcomes[0]
    wanted = (first.head, first.feature, first.seed)
    chosen = [o for o in bench.outcomes if (o.head, o.feature, o.seed) == wanted and ":" not in o.arm.name]
    chosen = chosen[:most]
    figure = Figure(figsize=(3.1 * len(chosen), 3.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(chosen)))
    for axis, outcome in zip(axes, chosen, strict=True):
        table = confusion(outcome.predictions).astype(float)
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        image = axis.imshow(shares, vmin=0, vmax=1, cmap="cividis")
        axis.set_title(outcome.arm.name, fontsize=9)
        if len(bench.dataset.classes) <= 12:
            ticks = range(len(bench.dataset.classes))
            axis.set_xticks(ticks, bench.dataset.classes, rotation=90, fontsize=6)
            axis.set_yticks(
                ticks, bench.dataset.classes if axis is axes[0] else [""] * len(ticks), fontsize=6
            )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return finish(figure)
