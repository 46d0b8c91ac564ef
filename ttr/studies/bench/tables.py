"""The benchmark as tables: every metric with its interval, every pair of arms with its tests, every answer.

``results``: one row an arm, feature, head, seed and metric. ``comparisons``: one row a pair of arms; numbers
of several seeds (and draws of random neurons) are averaged image by image before they are compared, so that
a lucky seed is no evidence. McNemar's test needs one answer an image and takes the first seed and draw; it
takes images for independent evidence, so it is left out where several images are of one group.
``predictions``: what each head said of each test image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from ttr.evaluate import metrics
from ttr.evaluate.metrics import METRICS, Predictions, metric
from ttr.evaluate.resampled import resampled
from ttr.statistics import estimates
from ttr.statistics.contrasts import Contrast, contrast
from ttr.statistics.estimates import Groups, Interval
from ttr.statistics.inference import (
    PERMUTATIONS,
    RESAMPLES,
    TOO_MANY_UNDEFINED,
    mcnemar,
    rescaled_weights,
    swap_permutation,
    units_that_differ,
)
from ttr.statistics.verdict import FEWEST, MARGIN, holm, judge_families
from ttr.studies.bench.benchmark import Benchmark, Outcome

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

#: A calibrated head's ece is lower than that of any of its resamples, so that no bootstrap covers it.
NO_INTERVAL = {"ece": "resampling only adds to a calibration error, so a bootstrap interval would mislead"}


#: Means over images, as numbers in 0..1, with what they are multiplied by.
MEANS = {
    "top1": (lambda found: found.correct, 1.0),
    "top3": (lambda found: metrics.ranks(found) < 3, 1.0),
    "brier": (lambda found: metrics.squared_distances(found) / 2, 2.0),
}
#: Below it a spread is one of the last bits of a float.
ROUNDING = 1e-12
OWN, DEPLOYED = "heads of the arm", "heads of the bare model"
NAN = float("nan")


def results(bench: Benchmark, backbone: str, *, resamples: int = RESAMPLES, seed: int = 42) -> pd.DataFrame:
    """Return every metric of every outcome, with its 95 % interval over the test images (groups).

    Columns: dataset, backbone, arm, head, seed, metric, value, ci_low, ci_high, n, feature, num_registers,
    reason (why a value or an interval is NaN), warning (why an interval is to be read with care).
    """
    targets = bench.outcomes[0].predictions.targets
    weights = _weights(targets, bench.groups, resamples, seed)
    smallest = int(np.bincount(targets)[np.unique(targets)].min())
    rows = []
    for outcome in bench.outcomes:
        for name in METRICS:
            found = metric(name, outcome.predictions)
            interval = Interval(NAN, NAN, found.reason or NO_INTERVAL.get(name, ""))
            if not interval.reason:
                interval = _interval(name, found.value, outcome.predictions, bench.groups, weights)
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


#: Weights of resamples and their degrees of freedom, or None where there is but one image or group.
Weights = tuple[np.ndarray, float] | None


def _weights(targets: np.ndarray, groups: Groups, resamples: int, seed: int) -> Weights:
    if len(targets if groups is None else set(groups)) < 2:
        return None
    return rescaled_weights(targets, groups=groups, resamples=resamples, seed=seed)


def _interval(name: str, value: float, found: Predictions, groups: Groups, weights: Weights) -> Interval:
    """Return a metric's interval: of a mean over images from these, else from resamples within the classes.

    Their variance says how many images a macro average is worth. Their mean is no help against its bias: over
    few images a macro precision is too high, and lower yet on resamples, which lose classes.
    """
    if name in MEANS:
        numbers, factor = MEANS[name]
        interval = estimates.share(np.asarray(numbers(found), dtype=float), groups).interval()
        return Interval(factor * interval.low, factor * interval.high)
    if weights is None:
        return Interval(NAN, NAN, "one image or group has no spread")
    values = resampled(name, found, weights[0])
    missing = np.isnan(values).mean()
    if missing > TOO_MANY_UNDEFINED:
        return Interval(NAN, NAN, f"not defined on {missing:.0%} of the resamples")
    least = -1.0 if name == "qwk" else 0.0
    known = (values[np.isfinite(values)] - least) / (1 - least)
    own = (value - least) / (1 - least)
    if name == "qwk" and np.ptp(known) < ROUNDING:
        return Interval(NAN, NAN, "no resample differs: its spread is not known")
    variance = float(known.var()) if np.ptp(known) >= ROUNDING else 0.0
    ends = estimates.share_of_variance(own, variance, weights[1], _worth(found.targets, groups)).interval()
    return Interval(least + (1 - least) * ends.low, least + (1 - least) * ends.high)


def _worth(targets: np.ndarray, groups: Groups) -> float:
    """Return how many images a macro average is worth if all classes are equally hard: C^2 / sum_c 1 / n_c.

    n_c: the images of a class, or as many as the groups where they belong together.
    """
    counts = np.unique(targets, return_counts=True)[1]
    units = estimates.spread(targets, groups)[2] / len(targets)
    return max(1.0, units * len(counts) ** 2 / float((1 / counts).sum()))


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
    weights = _weights(targets, bench.groups, resamples, seed)
    rows, found = [], []
    for first, second, here in _pairs(bench):
        for name in ("top1", "qwk" if bench.dataset.ordinal else "balanced_accuracy"):
            if name == "top1":
                each = _of_accuracy(first, second, bench.groups, permutations, seed)
            else:
                each = _of_metric(name, first, second, bench.groups, weights, permutations, seed)
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


def _of_accuracy(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    groups: Groups,
    permutations: int,
    seed: int,
) -> Contrast:
    right = [np.mean([each.correct for each in arm], axis=0) for arm in (first, second)]
    terms = [(1.0, right[0]), (-1.0, right[1])]
    return contrast(terms, groups=groups, shares=True, permutations=permutations, seed=seed)


def _of_metric(
    name: str,
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    groups: Groups,
    weights: Weights,
    permutations: int,
    seed: int,
) -> Contrast:
    """Return the difference of a metric that is no mean over images; its spread is that of the resamples."""
    values = [np.mean([metric(name, each).value for each in arm]) for arm in (first, second)]
    value, count = float(values[0] - values[1]), len(first[0].targets)
    pairs = list(zip(first, second, strict=True))
    answers = attrgetter("predicted" if name == "qwk" else "correct")
    changed = np.mean([answers(a) != answers(b) for a, b in pairs], axis=0)
    bound = 2.0 if name == "qwk" else 1.0
    variance, degrees, worth = NAN, 1.0, _worth(first[0].targets, groups)
    if weights is not None:
        drawn = [resampled(name, a, weights[0]) - resampled(name, b, weights[0]) for a, b in pairs]
        variance, degrees = float(np.nanvar(np.mean(drawn, axis=0) / bound)), weights[1]
    estimate = estimates.difference_of_variance(
        value, float(changed.mean()), variance, degrees, worth, count, bound
    )
    p = swap_permutation(
        lambda swapped: _swapped_differences(name, first, second, swapped),
        count,
        groups=groups,
        permutations=permutations,
        seed=seed,
    )
    return Contrast(value, estimate.interval(), p, count, estimate, units_that_differ(changed, groups))


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


def contrast_of(row: Any) -> Contrast:
    """Return the difference that a row of :func:`comparisons` tells of, to be judged in another family."""
    degrees = float("inf") if row.degrees != row.degrees else float(row.degrees)
    bound = 2.0 if row.metric == "qwk" else 1.0
    n = int(row.n)
    estimate = estimates.Difference(row.difference, row.moved, row.effective, n, degrees, bound)
    return Contrast(row.difference, Interval(row.ci_low, row.ci_high), row.p, n, estimate, int(row.differing))


def _mcnemar(first: Sequence[Predictions], second: Sequence[Predictions], groups: Groups) -> dict[str, Any]:
    test = mcnemar(first[0].correct, second[0].correct)
    alone = groups is None or len(set(groups)) == len(groups)
    return {
        "only_first": test.only_a,
        "only_second": test.only_b,
        "p_mcnemar": test.p if alone else NAN,
    }


def _swapped_differences(
    name: str, first: Sequence[Predictions], second: Sequence[Predictions], swapped: np.ndarray
) -> np.ndarray:
    """Return the mean difference over matched predictions for each set of swaps, bool [R, N] -> [R].

    Every metric is one of weighted images, so an arm with some images swapped is both arms' images with
    weights 0 and 1.
    """
    kept = ~swapped
    total = np.zeros(len(swapped))
    for a, b in zip(first, second, strict=True):
        both = Predictions(
            np.concatenate([a.targets, b.targets]),
            np.concatenate([a.probabilities, b.probabilities]),
            a.ordinal,
        )
        total += resampled(name, both, np.hstack([kept, swapped]))
        total -= resampled(name, both, np.hstack([swapped, kept]))
    return total / len(first)
