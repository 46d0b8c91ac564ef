"""A measured ablation as long tables: every number with its interval, every difference with its test.

``results`` holds the tasks. A condition is compared with ``full`` on the same images: the difference with its
interval, a paired permutation test, and what it comes to among all conditions and metrics of the same tokens
(:mod:`ttr.statistics.verdict`): registers, CLS and patches are three questions. The other tables hold the
analyses, a row a condition, block, token or pair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.errors import OptionError
from ttr.statistics.additivity import additivity
from ttr.statistics.contrasts import Contrast, contrast, level
from ttr.statistics.estimates import few
from ttr.statistics.verdict import MARGIN, judge, judge_families
from ttr.studies.ablate.conditions import FULL
from ttr.studies.ablate.scores import Score

NOTHING = float("nan")


def results(
    scores: Sequence[Score], backbone: str, dataset: str, *, margin: float = MARGIN, seed: int = 42
) -> pd.DataFrame:
    """Return one row a condition, task and metric.

    Columns: backbone, dataset, condition, task, metric, value, ci_low, ci_high, n, delta (from full),
    delta_ci_low, delta_ci_high, p (paired permutation), warning (why an interval is to be read with care),
    family (registers, cls or patches: what the tests are corrected over), and those of
    :class:`ttr.statistics.verdict.Judged`. ``margin``: of equivalence, a share.

    Where other images' tokens stood in (shuffle, resample) also donors_same_class, donors_by_chance (the
    share of the image's class among all images of other groups) and donors_same_group, 0..1.
    """
    full = {(score.task, score.metric): score for score in scores if score.condition == FULL.name}
    rows, found = [], []
    for score in scores:
        count = len(score.images) if callable(score.number) else None
        value, interval = level(score.number, count=count, groups=score.groups, shares=True)
        difference = _difference(score, full[score.task, score.metric], seed)
        rows.append(
            {
                "backbone": backbone,
                "dataset": dataset,
                "condition": score.condition,
                "task": score.task,
                "metric": score.metric,
                "value": value,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n": defined(score),
                **delta_columns(difference, score.condition),
                "warning": few(defined(score), score.groups),
                "family": family_of(score.condition),
                **_donors(score),
            }
        )
        found.append(difference)
    return with_verdicts(pd.DataFrame(rows), found, margin)


def _donors(score: Score) -> dict[str, float]:
    names = ("same_class", "by_chance", "same_group")
    return {f"donors_{name}": getattr(score.donors, name, NOTHING) for name in names}


def delta_columns(found: Contrast | None, condition: str) -> dict[str, float]:
    """Return how far a condition is from full, as columns; 0 for full itself, NaN where it is not known."""
    if found is None:
        delta = 0.0 if condition == FULL.name else NOTHING
        return {"delta": delta, "delta_ci_low": NOTHING, "delta_ci_high": NOTHING, "p": NOTHING}
    ends = {"delta_ci_low": found.interval.low, "delta_ci_high": found.interval.high}
    return {"delta": found.value, **ends, "p": found.p}


def with_verdicts(
    table: pd.DataFrame, found: Sequence[Contrast | None], margin: float | Sequence[float]
) -> pd.DataFrame:
    """Add what each difference comes to within its ``family``, columns of Judged."""
    judged = judge_families(found, table["family"], margin)
    return table.join(pd.DataFrame(each.columns() for each in judged))


def family_of(condition: str) -> str:
    """Return which question a condition answers: what do registers, CLS, or patches do?"""
    tokens = condition.partition(":")[0]
    if condition == FULL.name:
        return ""
    return "registers" if tokens.startswith(("register", "test-time")) else tokens.partition("-")[0]


def defined(score: Score) -> int:
    """Return how many images have the number."""
    return len(score.images) if callable(score.number) else int(np.isfinite(score.number).sum())


def _difference(score: Score, full: Score, seed: int) -> Contrast | None:
    if score.condition == FULL.name:
        return None
    count = len(score.images) if callable(score.number) else None
    terms = [(1.0, score.number), (-1.0, full.number)]
    try:
        return contrast(terms, count=count, groups=score.groups, shares=True, seed=seed)
    except OptionError:
        return None


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


def additivities(scores: Sequence[Score], *, margin: float = MARGIN, seed: int = 42) -> pd.DataFrame:
    """Return zeroing one register at a time against all at once; empty where those conditions did not run.

    Columns: registers, task, metric, term (each single condition, sum, collective, excess), value, ci_low,
    ci_high, p, and those of :class:`ttr.statistics.verdict.Judged`; all rows are one family.
    """
    rows: list[dict[str, Any]] = []
    contrasts: list[Contrast] = []
    for (task, metric), found in _by_metric(scores).items():
        for collective in ("registers:zero", "test-time:zero"):
            one = collective.replace("registers", "register").replace(":zero", r"-\d+:zero")
            singles = [name for name in found if re.fullmatch(one, name)]
            if collective not in found or len(singles) < 2:
                continue
            first = found[collective]
            numbers = {name: score.number for name, score in found.items()}
            options: dict[str, Any] = {"groups": first.groups, "shares": True, "seed": seed}
            options["count"] = len(first.images) if callable(first.number) else None
            sums = additivity(numbers, singles, collective, **options)
            terms = {**sums.singles, "sum": sums.total, "collective": sums.collective, "excess": sums.excess}
            place = {"registers": collective.partition(":")[0], "task": task, "metric": metric}
            for term, each in terms.items():
                ends = {"ci_low": each.interval.low, "ci_high": each.interval.high}
                rows.append({**place, "term": term, "value": each.value, **ends, "p": each.p})
                contrasts.append(each)
    judged = pd.DataFrame(each.columns() for each in judge(contrasts, margin))
    return pd.DataFrame(rows).join(judged) if rows else pd.DataFrame()


def _by_metric(scores: Sequence[Score]) -> dict[tuple[str, str], dict[str, Score]]:
    found: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        found.setdefault((score.task, score.metric), {})[score.condition] = score
    return found
