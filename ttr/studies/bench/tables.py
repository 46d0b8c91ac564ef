"""The benchmark as tables: every metric with its interval, every pair of arms with its tests, every answer.

``results``: one row an arm, feature, head, seed and metric. ``comparisons``: one row a pair of arms; numbers
of several seeds (and draws of random neurons) are averaged image by image before they are compared, so that
a lucky seed is no evidence. McNemar's test needs one answer an image and takes the first seed and draw; it
takes images for independent evidence, so it is left out where several images are of one group.
``predictions``: what each head said of each test image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttr.evaluate.metrics import METRICS, Predictions, metric
from ttr.statistics import estimates
from ttr.statistics.contrasts import Contrast
from ttr.statistics.estimates import Groups, Interval
from ttr.statistics.inference import PERMUTATIONS, RESAMPLES, mcnemar
from ttr.statistics.verdict import FEWEST, MARGIN, holm, judge_families
from ttr.studies.bench.benchmark import Benchmark, Outcome
from ttr.studies.bench.differences import of_accuracy, of_metric
from ttr.studies.bench.intervals import MEANS, NAN, metric_interval, metric_weights

#: (first, second): the differences first - second that answer a question; see :mod:`ttr.registers.arms`.
PAIRS = (
    ("ttr", "plain"),
    ("ttr", "token"),
    ("token", "plain"),
    ("neurons", "plain"),
    ("ttr", "random"),
    ("random", "plain"),
    ("attention-bias", "plain"),
    ("ttr", "attention-bias"),
    ("neurons", "random-neurons"),
    ("random-neurons", "plain"),
)

#: The two questions that differences answer.
OWN, DEPLOYED = "heads of the arm", "heads of the bare model"


def results(bench: Benchmark, backbone: str, *, resamples: int = RESAMPLES, seed: int = 42) -> pd.DataFrame:
    """Return every metric of every outcome, with its 95 % interval over the test images (groups).

    Columns: dataset, backbone, arm, head, seed, metric, value, ci_low, ci_high, n, feature, num_registers,
    reason (why a value or an interval is NaN), warning (why an interval is to be read with care).
    """
    targets = bench.outcomes[0].predictions.targets
    weights = metric_weights(targets, bench.groups, resamples, seed)
    smallest = int(np.bincount(targets)[np.unique(targets)].min())
    rows = []
    for outcome in bench.outcomes:
        for name in METRICS:
            found = metric(name, outcome.predictions)
            interval = Interval(NAN, NAN, found.reason)
            if not interval.reason:
                interval = metric_interval(name, found.value, outcome.predictions, bench.groups, weights)
            macro = smallest if name not in MEANS else None
            rows.append(
                {
                    "dataset": bench.dataset.name,
                    "backbone": backbone,
                    "arm": outcome.arm.name,
                    "head": outcome.head,
                    "seed": outcome.seed,
                    "metric": name,
                    "value": found.value,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "n": len(bench.test),
                    "feature": outcome.feature,
                    "num_registers": outcome.arm.num_registers,
                    "reason": found.reason or interval.reason,
                    "warning": ""
                    if interval.reason
                    else estimates.few(len(bench.test), bench.groups, smallest_class=macro),
                }
            )
    return pd.DataFrame(rows)


def comparisons(
    bench: Benchmark,
    backbone: str,
    *,
    margin: float = MARGIN,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 42,
) -> pd.DataFrame:
    """Return the differences between arms on the same images, for top1 and the set's second metric.

    Columns: dataset, backbone, head, feature, num_registers, metric, first, second, difference (first -
    second), ci_low, ci_high, p (paired permutation; with ``p_holm`` and all that follows from it as
    :class:`ttr.statistics.verdict.Judged` says), n; for top1 alone only_first, only_second, p_mcnemar and
    p_mcnemar_holm; family (the question that the row's tests are corrected over: what heads of the arm find,
    or what becomes of heads of the bare model), and of the estimate moved, effective and degrees
    (:class:`ttr.statistics.estimates.Difference`), differing. The second metric is ``qwk`` for ordinal
    classes, else ``balanced_accuracy``.
    """
    targets = bench.outcomes[0].predictions.targets
    weights = metric_weights(targets, bench.groups, resamples, seed)
    rows, found = [], []
    for first, second, here in _pairs(bench):
        for name in ("top1", "qwk" if bench.dataset.ordinal else "balanced_accuracy"):
            if name == "top1":
                each = of_accuracy(first, second, bench.groups, permutations, seed)
            else:
                each = of_metric(name, first, second, bench.groups, weights, permutations, seed)
            row = {"dataset": bench.dataset.name, "backbone": backbone, **here, "metric": name}
            row |= _columns(each) | (_mcnemar(first, second, bench.groups) if name == "top1" else {})
            deployed = str(here["head"]).endswith(":plain")
            rows.append({**row, "n": each.n, "family": DEPLOYED if deployed else OWN})
            found.append(each)
    table = pd.DataFrame(rows)
    if not len(table):
        return table
    firing = table.p_mcnemar.where(table.only_first + table.only_second >= FEWEST)
    table["p_mcnemar_holm"] = firing.groupby(table.family).transform(lambda p: holm(p.tolist()))
    return table.join(pd.DataFrame(each.columns() for each in judge_families(found, table.family, margin)))


def predictions(bench: Benchmark) -> pd.DataFrame:
    """Return one row an outcome and test image; ``probabilities`` are in the order of the classes."""
    classes = bench.dataset.classes
    tables = [
        pd.DataFrame(
            {
                "image": bench.test,
                "arm": outcome.arm.name,
                "head": outcome.head,
                "seed": outcome.seed,
                "feature": outcome.feature,
                "num_registers": outcome.arm.num_registers,
                "label": [classes[target] for target in outcome.predictions.targets],
                "predicted": [classes[index] for index in outcome.predictions.predicted],
                "probabilities": outcome.predictions.probabilities.tolist(),
            }
        )
        for outcome in bench.outcomes
    ]
    return pd.concat(tables, ignore_index=True)


def _pairs(bench: Benchmark) -> Iterator[tuple[list[Predictions], list[Predictions], dict[str, Any]]]:
    """Yield each pair of arms as predictions matched by seed, every draw with every draw."""
    kinds: dict[tuple[str, str, str, int], list[Outcome]] = {}
    for outcome in bench.outcomes:
        place = (outcome.head, outcome.feature, outcome.arm.kind, outcome.arm.num_registers)
        kinds.setdefault(place, []).append(outcome)
    for (head, feature, kind, registers), own in kinds.items():
        for first, second in PAIRS:
            if first != kind:
                continue
            for (other_head, other_feature, other_kind, other_registers), others in kinds.items():
                if (other_head, other_feature, other_kind) != (head, feature, second):
                    continue
                # Arms with registers are compared at equal counts; those without stand for all.
                if registers and other_registers and registers != other_registers:
                    continue
                matched = [(a.predictions, b.predictions) for a in own for b in others if a.seed == b.seed]
                here = {"head": head, "feature": feature, "num_registers": registers or other_registers}
                names = {"first": first, "second": second}
                yield [a for a, _ in matched], [b for _, b in matched], {**here, **names}


def _columns(found: Contrast) -> dict[str, Any]:
    estimate = found.estimate
    assert isinstance(estimate, estimates.Difference)
    return {
        "difference": found.value,
        "ci_low": found.interval.low,
        "ci_high": found.interval.high,
        "p": found.p,
        "moved": estimate.moved,
        "effective": estimate.effective,
        "degrees": NAN if np.isinf(estimate.degrees) else estimate.degrees,
        "differing": found.differing,
    }


def _mcnemar(first: Sequence[Predictions], second: Sequence[Predictions], groups: Groups) -> dict[str, Any]:
    test = mcnemar(first[0].correct, second[0].correct)
    alone = groups is None or len(set(groups)) == len(groups)
    return {
        "only_first": test.only_a,
        "only_second": test.only_b,
        "p_mcnemar": test.p if alone else NAN,
    }
