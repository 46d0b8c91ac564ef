"""The figures of a reader study: each metric by condition, with its interval over readers and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ttr.drawing.charts import axis, figure, interval, whiskers
from ttr.drawing.colours import BLUE
from ttr.studies.reading.sentences import CALLED, SAID

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLES = {
    "accuracy": "right answers, %",
    "auc": "area under the ROC curve, %",
    "confidence": "confidence, %",
    "trust": "trust in the map, %",
    "log_seconds": "seconds, geometric mean",
}


def by_condition(conditions: pd.DataFrame) -> dict[str, Figure]:
    """Draw ``conditions.csv``, {metric: figure}."""
    from plotly.graph_objects import Scatter

    drawn = {}
    for metric, title in TITLES.items():
        rows = conditions[conditions["metric"] == metric]
        if not len(rows):
            continue
        ends = rows[["value", "ci_low", "ci_high"]].to_numpy(float)
        value, low, high = (np.exp(ends) if metric == "log_seconds" else 100 * ends).T
        called, pattern = SAID.get(metric, "seconds"), "{:.1f} %" if metric in SAID else "{:.1f} s"
        hover = [
            f"<b>{CALLED.get(name, name)}</b><br>{called} {pattern.format(v)}, {interval(a, b, pattern)}"
            for name, v, a, b in zip(rows["condition"], value, low, high, strict=True)
        ]
        points = Scatter(
            x=rows["condition"].tolist(),
            y=value.tolist(),
            error_y=whiskers(value.tolist(), low.tolist(), high.tolist(), BLUE),
            mode="markers",
            marker={"color": BLUE, "size": 10},
            hovertext=hover,
            hoverinfo="text",
            showlegend=False,
        )
        drawn[metric] = figure([points], height=300, y=axis(title))
    return drawn
