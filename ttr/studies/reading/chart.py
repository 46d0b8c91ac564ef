"""The figures of a reader study: each metric by condition, with its interval over readers and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ttr.drawing.charts import axis, figure
from ttr.drawing.colours import BLUE

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
        hover = [
            f"{name}: {v:.1f} [{a:.1f}, {b:.1f}]"
            for name, v, a, b in zip(rows["condition"], value, low, high, strict=True)
        ]
        around = {
            "type": "data",
            "symmetric": False,
            "array": (high - value).tolist(),
            "arrayminus": (value - low).tolist(),
        }
        points = Scatter(
            x=rows["condition"].tolist(),
            y=value.tolist(),
            error_y={**around, "thickness": 2, "width": 6},
            mode="markers",
            marker={"color": BLUE, "size": 10},
            hovertext=hover,
            hoverinfo="text",
            showlegend=False,
        )
        drawn[metric] = figure([points], height=300, y=axis(title))
    return drawn
