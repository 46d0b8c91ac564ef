"""What the order does, and each reader alone: left or right, first or second, early or late in a session.

``order.csv`` asks of all readers, ``by_reader.csv`` of each; a question is a family. Which map is at the
left, which was seen first and when an image is shown is drawn at random and balanced, so that no condition
stands behind any of it. Questions, as shares where they are shares:

    prefers left            pairs in which the left map is preferred, less those in which the right one is
    prefers first seen      the same of the map that the reader saw first of that image
    drift of accuracy       change from the beginning to the end of a session, by least squares beside the
    drift of log_seconds    conditions, sessions, images (and readers), with HC3 errors (MacKinnon and White
    drift of trust          1985); of these readers, not of others
    trusts wrong maps less  trust in the images' own maps less that in maps that are not theirs (catch trials)
    accuracy beside others  less the mean of the others on the same images, all conditions together

``catch.csv``: how many maps that are not their images' a reader trusted little (2 of 5 or less), with
Wilson's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ttr.statistics.contrasts import Contrast, contrast
from ttr.statistics.estimates import Number, share
from ttr.statistics.readers_and_cases import over_readers_and_cases
from ttr.studies.reading.design import PERTURBED
from ttr.studies.reading.joined import crossed, of_kind, seen_first
from ttr.studies.reading.measures import WITHIN, judged_table, numbers
from ttr.studies.reading.settings import AFTER, BEFORE

LEFT, FIRST = "prefers left", "prefers first seen"
WRONG_MAPS, OTHERS = "trusts wrong maps less", "accuracy beside others"
DRIFTS = ("accuracy", "log_seconds", "trust")
#: Of shares: a tenth of the pairs, of the way of trust, of the answers.
MARGIN = 0.1
#: Trust, 1..5, that says that a map was seen through.
LITTLE = 2
#: Reads that a slope is taken from, at least, beyond what else is fitted.
SPARE = 10


def order_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the order does to all readers together; see the module."""
    found: list[tuple[str, Contrast]] = []
    marked = with_first(table)
    for question, column in ((LEFT, "for_left"), (FIRST, "for_first")):
        values, _ = of_kind(table, "pair", marked[column].to_numpy())
        if values.size and values.shape[1] >= 2:
            found.append((question, over_readers_and_cases(values, bound=1.0)))
    for metric in DRIFTS:
        slope = drift(table, metric)
        if slope is not None:
            found.append((f"drift of {metric}", slope))
    rows = [{"question": question, "family": _family(question)} for question, _ in found]
    return judged_table(rows, ["question"], [each for _, each in found], _margins(rows))


def reader_table(table: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Return what each reader does alone; see the module."""
    rows: list[dict[str, Any]] = []
    found: list[Contrast] = []
    marked = with_first(table)
    beside = _beside_others(table, conditions)
    for reader in sorted(set(table["reader"]), key=lambda name: int(name[1:])):
        own = marked[marked["reader"] == reader]
        asked = {
            LEFT: preference(own["for_left"]),
            FIRST: preference(own["for_first"]),
            WRONG_MAPS: _trust_apart(own),
            OTHERS: beside.get(reader),
            **{f"drift of {metric}": drift(own, metric) for metric in DRIFTS},
        }
        for question, answer in asked.items():
            if answer is not None:
                rows.append({"reader": reader, "question": question})
                found.append(answer)
    return judged_table(rows, ["reader", "question"], found, _margins(rows), by="question")


def catch_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many catch trials each reader passed; see the module."""
    rows = []
    for reader, own in table[table["kind"] == "catch"].groupby("reader"):
        passed = (own["trust"] <= LITTLE).to_numpy(float)
        interval = share(passed).interval()
        ends = {"ci_low": interval.low, "ci_high": interval.high}
        counts = {"trials": len(passed), "passed": int(passed.sum()), "share": float(passed.mean())}
        rows.append({"reader": reader, **counts, **ends})
    found = pd.DataFrame(rows, columns=["reader", "trials", "passed", "share", "ci_low", "ci_high"])
    return found.sort_values("reader", key=lambda names: names.str[1:].astype(int), ignore_index=True)


def with_first(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with ``for_first``: of a pair, whether the map that was seen first is preferred."""
    first = seen_first(table)
    seen = [first.get((row.reader, row.case), "") for row in table.itertuples()]
    sign = np.where(np.array(seen) == table["left"].to_numpy(), 1.0, -1.0)
    sign[np.array(seen) == ""] = math.nan
    return table.assign(for_first=table["for_left"] * sign)


def drift(table: pd.DataFrame, metric: str) -> Contrast | None:
    """Return the change of a metric from the beginning to the end of a session; None: too few reads."""
    reads = table[table["kind"] == "read"]
    values = numbers(reads, metric)
    reads, y = reads[values.notna()], values[values.notna()].to_numpy()
    if len(reads) < SPARE:
        return None
    length = reads.groupby(["reader", "session"])["position"].transform("max")
    place = ((reads["position"] - 1) / (length - 1).clip(lower=1)).to_numpy()
    beside = [pd.get_dummies(reads[name].astype(str)) for name in ("reader", "condition", "session", "case")]
    fitted = np.column_stack([np.ones(len(y)), *beside]).astype(float)
    rank = int(np.linalg.matrix_rank(fitted))
    spare = len(y) - rank - 1
    if spare < SPARE:
        return None
    # What is left of both once all else is fitted (Frisch and Waugh 1933).
    x, left = (part - fitted @ np.linalg.lstsq(fitted, part, rcond=None)[0] for part in (place, y))
    square = float((x**2).sum())
    if square < 1e-9:
        return None
    slope = float((x * left).sum()) / square
    # A read that the fit follows by itself has no residual, and says nothing of the scatter.
    free = 1 - np.einsum("ij,ji->i", fitted, np.linalg.pinv(fitted)) - x**2 / square
    rest = np.divide(left - slope * x, free, out=np.zeros_like(x), where=free > 1e-9)
    error = math.sqrt(float((x**2 * rest**2).sum())) / square
    return _student(slope, error, len(y), float(spare))


def _student(value: float, error: float, n: int, degrees: float) -> Contrast:
    from scipy.stats import t

    estimate = Number(value, error, n, degrees)
    p = float(2 * t.sf(abs(value) / error, degrees)) if error > 0 else (1.0 if value == 0 else math.nan)
    return Contrast(value, estimate.interval(), p, n, estimate, n)


def preference(values: pd.Series) -> Contrast | None:
    """Return a preference with the exact binomial test of the decided pairs; None: no pair."""
    from scipy.stats import binomtest

    known = values.dropna().to_numpy(float)
    if not len(known):
        return None
    wins, losses = int((known > 0).sum()), int((known < 0).sum())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return replace(contrast([(1.0, known)], shares=True, permutations=1), p=p)


def _trust_apart(own: pd.DataFrame) -> Contrast | None:
    """Return how much more a reader trusts the images' own maps, with Mann and Whitney's test."""
    from scipy.stats import mannwhitneyu

    trust = numbers(own, "trust")
    true = trust[(own["kind"] == "read") & own["condition"].isin([BEFORE, AFTER])].dropna().to_numpy()
    wrong = trust[own["condition"] == PERTURBED].dropna().to_numpy()
    if min(len(true), len(wrong)) < 2:
        return None
    count = len(true) + len(wrong)
    square = (len(true) * true.var() + len(wrong) * wrong.var()) / (count - 2)
    error = math.sqrt(square * (1 / len(true) + 1 / len(wrong)))
    found = _student(float(true.mean() - wrong.mean()), error, count, count - 2.0)
    return replace(found, p=float(mannwhitneyu(true, wrong).pvalue))


def _beside_others(table: pd.DataFrame, conditions: Sequence[str]) -> dict[str, Contrast]:
    values, readers = crossed(table, "right", conditions)
    if values.shape[1] < 2 or values.shape[2] < 2:
        return {}
    right = values.mean(axis=0)
    found = {}
    for place, reader in enumerate(readers):
        others = np.delete(right, place, axis=0).mean(axis=0)
        found[reader] = contrast([(1.0, right[place]), (-1.0, others)], shares=True)
    return found


def _family(question: str) -> str:
    return "drift" if question.startswith("drift") else "preference"


def _margins(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [WITHIN if str(row["question"]).endswith("log_seconds") else MARGIN for row in rows]
