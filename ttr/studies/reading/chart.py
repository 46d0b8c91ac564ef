"""The picture of a reader study: each metric by condition, with its interval over readers and cases."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ttr.drawing.colours import BLUE
from ttr.drawing.maps import finish, pair_of_axes

TITLES = {
    "accuracy": "right answers, %",
    "auc": "area under the ROC curve, %",
    "confidence": "confidence, %",
    "trust": "trust in the map, %",
    "log_seconds": "seconds (geometric mean)",
}

#: Plots beside each other, at most.
WIDE = 3


def chart(conditions: pd.DataFrame) -> str:
    """Draw ``conditions.csv`` as a data URI; "": it is empty."""
    metrics = [name for name in TITLES if name in set(conditions["metric"])]
    if not metrics:
        return ""
    columns = min(len(metrics), WIDE)
    figure, axes = pair_of_axes(columns, rows=-(-len(metrics) // columns))
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes, metrics, strict=False):
        rows = conditions[conditions["metric"] == metric]
        ends = rows[["value", "ci_low", "ci_high"]].to_numpy(float)
        ends = np.exp(ends) if metric == "log_seconds" else 100 * ends
        value, low, high = ends.T
        places = np.arange(len(rows))
        axis.errorbar(
            places, value, [value - low, high - value], fmt="o", color=BLUE, capsize=4, markersize=7
        )
        axis.set(
            ylabel=TITLES[metric], xticks=places, xticklabels=rows["condition"], xlim=(-0.5, len(rows) - 0.5)
        )
    return finish(figure)
