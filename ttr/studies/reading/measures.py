"""What is measured of every condition, and what differs between two: with readers and cases both at random.

Columns of ``conditions.csv``: metric, condition, value, ci_low, ci_high, readers, cases. Of
``differences.csv``: family, metric, first, second, difference (first - second), ci_low, ci_high, p, and what
it comes to within its family (:mod:`ttr.statistics.verdict`): of a metric all pairs of conditions, and apart
from them the catch trials against the same reader's reads of the same images. Metrics, as shares where they
are shares:

    accuracy      share of right answers
    auc           area under the ROC curve of the signed confidence, where there are two answers
    confidence    in the answer, 0..1
    trust         in the map, as a share of the way from 1 to 5
    log_seconds   natural logarithm of the reading time: its difference is the logarithm of a ratio
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ttr.statistics.contrasts import Contrast
from ttr.statistics.estimates import Interval, Number, share_of_variance
from ttr.statistics.readers_and_cases import auc_pseudo_values, over_readers_and_cases
from ttr.statistics.verdict import MARGIN, judge_families
from ttr.studies.reading.design import PERTURBED
from ttr.studies.reading.joined import crossed, of_kind
from ttr.studies.reading.settings import AFTER, BEFORE, NONE

METRICS = ("accuracy", "auc", "confidence", "trust", "log_seconds")
#: Columns of a difference, and of what it comes to.
DIFFERENCE = ("n", "difference", "ci_low", "ci_high", "p")
JUDGED = ("p_holm", "verdict", "tests", "margin", "p_equivalent")
#: Times count as equivalent within a tenth.
WITHIN = math.log(1.1)


def numbers(table: pd.DataFrame, metric: str) -> pd.Series:
    """Return a metric of every row; of ``auc`` the score that goes into it."""
    column = {
        "accuracy": table["right"],
        "auc": table["score"].where(table["truth"] != ""),
        "confidence": table["confidence"] / 100,
        "trust": (table["trust"] - 1) / 4,
        "log_seconds": table["log_ms"] - math.log(1000),
    }[metric]
    return column.astype(float)


def by_condition(
    table: pd.DataFrame, metric: str, conditions: Sequence[str], positive: str
) -> tuple[np.ndarray, list[str]]:
    """Return the metric's number of each condition, reader and case, float [K, R, C], and the readers.

    Of ``auc`` these are the cases' pseudo-values; C is 0 where there are too few of a kind.

    Args:
        table: of :func:`ttr.studies.reading.joined.joined`.
        metric: of :data:`METRICS`.
        conditions: which.
        positive: the answer whose score is the larger one.
    """
    marked = table.assign(number=numbers(table, metric))
    found, readers = crossed(marked, "number", conditions)
    if metric != "auc" or not found.size:
        return found, readers
    yes = (table["truth"] == positive).astype(float).where(marked["number"].notna())
    positives, _ = crossed(marked.assign(yes=yes), "yes", conditions)
    values = np.stack([[auc_pseudo_values(row, positives[0, 0] == 1) for row in block] for block in found])
    return (values, readers) if np.isfinite(values).all() else (values[:, :, :0], readers)


def conditions_table(table: pd.DataFrame, conditions: Sequence[str], positive: str) -> pd.DataFrame:
    """Return every metric of every condition; see the module."""
    rows = []
    for metric in METRICS:
        for condition in conditions:
            values, readers = by_condition(table, metric, [condition], positive)
            if values.shape[2] < 2:
                continue
            found = over_readers_and_cases(values[0])
            interval = found.interval if metric == "log_seconds" else _of_share(found, values[0].size)
            rows.append(
                {
                    "metric": metric,
                    "condition": condition,
                    "value": found.value,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "readers": len(readers),
                    "cases": found.n,
                }
            )
    return pd.DataFrame(
        rows, columns=["metric", "condition", "value", "ci_low", "ci_high", "readers", "cases"]
    )


def differences_table(
    table: pd.DataFrame, conditions: Sequence[str], positive: str, margin: float = MARGIN
) -> pd.DataFrame:
    """Return every difference of two conditions, and of a wrong map from none; see the module."""
    rows, found = [], []
    pairs = [(b, a) for a, b in combinations([c for c in (NONE, BEFORE, AFTER) if c in conditions], 2)]
    for metric in METRICS:
        for first, second in pairs:
            values, readers = by_condition(table, metric, [first, second], positive)
            if values.shape[2] >= 2:
                found.append(over_readers_and_cases(values[0] - values[1], bound=_bound(metric)))
                rows.append((metric, metric, first, second, len(readers)))
        if metric != "auc":
            for second in (NONE, AFTER):
                values, readers = _against(table, metric, second)
                if values.size and values.shape[1] >= 2:
                    found.append(over_readers_and_cases(values, bound=_bound(metric)))
                    rows.append((f"{metric} with a wrong map", metric, PERTURBED, second, len(readers)))
    margins = [WITHIN if row[1] == "log_seconds" else margin for row in rows]
    names = ("family", "metric", "first", "second", "readers")
    return judged_table([dict(zip(names, row, strict=True)) for row in rows], names, found, margins)


def judged_table(
    rows: Sequence[dict[str, Any]],
    names: Sequence[str],
    found: Sequence[Contrast],
    margin: float | Sequence[float],
    by: str = "family",
) -> pd.DataFrame:
    """Return differences as a table: what each is of, the difference, and what it comes to.

    How many images would tell is left out: a reader's own scatter does not go away with more images.

    Args:
        rows: what each is of; may hold more than ``names``.
        names: columns that are kept of that.
        found: the differences.
        margin: of equivalence, or one each.
        by: what of a row says its family.
    """
    judged = judge_families(found, [str(row[by]) for row in rows], margin)
    table = [
        {name: row[name] for name in names}
        | {"n": each.n, "difference": each.value}
        | {"ci_low": each.interval.low, "ci_high": each.interval.high, "p": each.p}
        | {name: getattr(verdict, name) for name in JUDGED}
        for row, each, verdict in zip(rows, found, judged, strict=True)
    ]
    return pd.DataFrame(table, columns=[*names, *DIFFERENCE, *JUDGED])


def _bound(metric: str) -> float:
    return math.inf if metric == "log_seconds" else 1.0


def _of_share(found: Contrast, count: int) -> Interval:
    """Return the interval of a share, which stays within 0..1, from its variance over readers and cases."""
    estimate = found.estimate
    assert isinstance(estimate, Number)
    return share_of_variance(
        min(max(found.value, 0.0), 1.0), estimate.error**2, estimate.degrees, float(count)
    ).interval()


def _against(table: pd.DataFrame, metric: str, condition: str) -> tuple[np.ndarray, list[str]]:
    """Return catch trial minus the same reader's own read of the same case in a condition, [R, C]."""
    values, place = numbers(table, metric).to_numpy(), table[["reader", "case"]].apply(tuple, axis=1)
    reads = ((table["kind"] == "read") & (table["condition"] == condition)).to_numpy()
    own = dict(zip(place[reads], values[reads], strict=True))
    return of_kind(table, "catch", values - np.array([own.get(each, math.nan) for each in place]))
