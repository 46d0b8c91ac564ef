"""A measured ablation as long tables: every number with its interval, every difference with its test.

``results`` holds the tasks. A condition is compared with ``full`` on the same images: the difference with its
bootstrap interval, a paired permutation test, and Holm's correction over the conditions of that metric. The
other tables hold the analyses, a row a condition, block, token or pair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.errors import OptionError
from ttr.statistics.additivity import additivity
from ttr.statistics.contrasts import Measured as Number
from ttr.statistics.contrasts import contrast
from ttr.statistics.inference import Interval, bootstrap_interval, holm, resample_weights, verdict
from ttr.studies.ablate.conditions import FULL
from ttr.studies.ablate.scores import Score

NOTHING = float("nan")


def results(scores: Sequence[Score], backbone: str, dataset: str, *, seed: int = 42) -> pd.DataFrame:
    """Return one row a condition, task and metric.

    Columns: backbone, dataset, condition, task, metric, value, ci_low, ci_high, n, delta (from full),
    delta_ci_low, delta_ci_high, p (paired permutation), p_holm (over the conditions of the metric), verdict.
    Where other images' tokens stood in (shuffle, resample) also donors_same_class, donors_by_chance (the
    share of the image's class among all images of other groups) and donors_same_group, 0..1.
    """
    full = {(score.task, score.metric): score for score in scores if score.condition == FULL.name}
    rows = []
    for score in scores:
        value, interval = estimate(score.number, len(score.images), score.groups, seed)
        row: dict[str, Any] = {
            "backbone": backbone,
            "dataset": dataset,
            "condition": score.condition,
            "task": score.task,
            "metric": score.metric,
            "value": value,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "n": defined(score),
        }
        rows.append(row | _difference(score, full[score.task, score.metric], seed) | _donors(score))
    return with_verdicts(pd.DataFrame(rows), ["task", "metric"])


def _donors(score: Score) -> dict[str, float]:
    names = ("same_class", "by_chance", "same_group")
    return {f"donors_{name}": getattr(score.donors, name, NOTHING) for name in names}


def with_verdicts(table: pd.DataFrame, family: list[str]) -> pd.DataFrame:
    """Add p_holm over each family of tests, and what the difference comes to."""
    table["p_holm"] = table.groupby(family)["p"].transform(lambda p: holm(p.tolist()))
    ends = zip(
        table["delta_ci_low"], table["delta_ci_high"], table["p_holm"], table["condition"], strict=True
    )
    table["verdict"] = [
        "" if condition == FULL.name else verdict(Interval(low, high), p) for low, high, p, condition in ends
    ]
    return table


def estimate(number: Number, count: int, groups: Sequence[str] | None, seed: int) -> tuple[float, Interval]:
    """Return a number's value and its 95 % interval over images (groups)."""
    if callable(number):
        weights = resample_weights(count, groups=groups, seed=seed)
        value = float(number(np.ones((1, count)))[0])
        return value, bootstrap_interval(value, number(weights))
    known = np.isfinite(number)
    if not known.any():
        return NOTHING, Interval(NOTHING, NOTHING, "not defined for any image")
    kept = None if groups is None else [group for group, there in zip(groups, known, strict=True) if there]
    weights = resample_weights(int(known.sum()), groups=kept, seed=seed)
    value = float(number[known].mean())
    return value, bootstrap_interval(value, weights @ number[known] / weights.sum(axis=1))


def defined(score: Score) -> int:
    """Return how many images have the number."""
    return len(score.images) if callable(score.number) else int(np.isfinite(score.number).sum())


def _difference(score: Score, full: Score, seed: int) -> dict[str, float]:
    if score.condition == FULL.name:
        return {"delta": 0.0, "delta_ci_low": NOTHING, "delta_ci_high": NOTHING, "p": NOTHING}
    count = len(score.images) if callable(score.number) else None
    try:
        found = contrast([(1, score.number), (-1, full.number)], count=count, groups=score.groups, seed=seed)
    except OptionError:
        return {"delta": NOTHING, "delta_ci_low": NOTHING, "delta_ci_high": NOTHING, "p": NOTHING}
    return {
        "delta": found.value,
        "delta_ci_low": found.interval.low,
        "delta_ci_high": found.interval.high,
        "p": found.p,
    }


def per_image(scores: Sequence[Score], backbone: str, dataset: str) -> pd.DataFrame:
    """Return one row a condition, metric and image, by which models are compared on the same images."""
    tables = []
    for score in scores:
        group = score.groups if score.groups is not None else [""] * len(score.images)
        matrices = (
            [[]] * len(score.images)
            if score.confusions is None
            else score.confusions.reshape(len(score.images), -1).tolist()
        )
        tables.append(
            pd.DataFrame(
                {
                    "backbone": backbone,
                    "dataset": dataset,
                    "condition": score.condition,
                    "task": score.task,
                    "metric": score.metric,
                    "image": score.images,
                    "group": group,
                    "value": score.per_image,
                    "confusion": matrices,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def additivities(scores: Sequence[Score], *, seed: int = 42) -> pd.DataFrame:
    """Return zeroing one register at a time against all at once; empty where those conditions did not run.

    Columns: registers, task, metric, term (each single condition, sum, collective, excess), value, ci_low,
    ci_high, p.
    """
    rows = []
    for (task, metric), found in _by_metric(scores).items():
        for collective in ("registers:zero", "test-time:zero"):
            one = collective.replace("registers", "register").replace(":zero", r"-\d+:zero")
            singles = [name for name in found if re.fullmatch(one, name)]
            if collective not in found or len(singles) < 2:
                continue
            first = found[collective]
            numbers = {name: score.number for name, score in found.items()}
            count = len(first.images) if callable(first.number) else None
            sums = additivity(numbers, singles, collective, count=count, groups=first.groups, seed=seed)
            terms = {**sums.singles, "sum": sums.total, "collective": sums.collective, "excess": sums.excess}
            place = {"registers": collective.partition(":")[0], "task": task, "metric": metric}
            rows += [
                {
                    **place,
                    "term": term,
                    "value": each.value,
                    "ci_low": each.interval.low,
                    "ci_high": each.interval.high,
                    "p": each.p,
                }
                for term, each in terms.items()
            ]
    return pd.DataFrame(rows)


def _by_metric(scores: Sequence[Score]) -> dict[tuple[str, str], dict[str, Score]]:
    found: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        found.setdefault((score.task, score.metric), {})[score.condition] = score
    return found
