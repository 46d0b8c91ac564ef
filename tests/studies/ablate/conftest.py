"""A table of results whose every number is known, for what is drawn and said of it."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.tools.drawn import CONDITIONS, NAN


@pytest.fixture
def results():
    """Zeroing costs; the mean is not distinguishable; CLS costs the probe alone; mIoU lacks one condition."""
    changes = {"registers:zero": -0.6, "registers:mean": 0.01, "cls:mean": -0.5, "patches-4:zero": -0.004}
    rows = []
    for condition in CONDITIONS:
        for task, metric, full in (("probe", "top1", 0.9), ("segmentation", "miou", 0.7)):
            if (condition, metric) == ("patches-4:zero", "miou"):
                continue
            delta = changes.get(condition, 0.0)
            sure = delta < -0.1 and not (condition == "cls:mean" and metric == "miou")
            rows.append(
                {
                    "backbone": "tiny",
                    "dataset": "set",
                    "condition": condition,
                    "task": task,
                    "metric": metric,
                    "value": full + delta,
                    "ci_low": full + delta - 0.05,
                    "ci_high": full + delta + 0.05,
                    "n": 40,
                    "delta": delta,
                    "delta_ci_low": NAN if condition == "full" else delta - 0.03,
                    "delta_ci_high": NAN if condition == "full" else delta + 0.03,
                    "p": NAN if condition == "full" else 0.0001,
                    "p_holm": NAN if condition == "full" else 0.0004 if sure else 0.3,
                    "verdict": "" if condition == "full" else "lower" if sure else "not distinguishable",
                }
            )
    return pd.DataFrame(rows)
