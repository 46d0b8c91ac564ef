"""Figures of a benchmark besides its differences: who is taken for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ttr.drawing.charts import Grid, heatmap, plain
from ttr.evaluate.metrics import confusion
from ttr.studies.bench.benchmark import Benchmark
from ttr.wording import counted

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Classes of which each cell's number is printed, at most.
PRINTED = 8


def confusions(bench: Benchmark, most: int = 4) -> dict[str, Figure]:
    """Draw the confusion matrices of the first head of up to ``most`` arms on one scale, in per cent.

    Rows are the truth, columns the predictions; a row's shares sum to 100.
    """
    first = bench.outcomes[0]
    wanted = (first.head, first.feature, first.seed)
    chosen = [o for o in bench.outcomes if (o.head, o.feature, o.seed) == wanted and ":" not in o.arm.name]
    classes = [str(name) for name in bench.dataset.classes]
    printed = len(classes) <= PRINTED
    drawn = {}
    for outcome in chosen[:most]:
        counts = confusion(outcome.predictions)
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [
            [(true, told, float(shares[i, j]), int(counts[i, j])) for j, told in enumerate(classes)]
            for i, true in enumerate(classes)
        ]
        grid = Grid(
            classes,
            classes,
            cells,
            value=lambda cell: cell[2],
            text=lambda cell: f"{cell[2]:.0f}" if printed else "",
            hover=lambda cell: (
                f"<b>{plain(cell[0])}</b> taken for {plain(cell[1])}: {counted(cell[3], 'image')} "
                f"({cell[2]:.1f} % of {plain(cell[0])})"
            ),
        )
        name = f"confusion-{outcome.arm.name}-{outcome.arm.num_registers}"
        shown = heatmap(
            grid, unit="%", span=(0, 100), height=min(640, 190 + 26 * len(classes)), gap=1, top=96
        )
        title = {"text": outcome.arm.name, "font": {"size": 14}, "x": 0.5, "y": 0.98}
        drawn[name] = shown.update_layout(title=title, xaxis={"tickangle": -45})
    return drawn
