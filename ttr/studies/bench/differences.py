"""The differences between two arms, each with what its interval, its tests and its verdict follow from.

Numbers of several seeds (and draws of random neurons) are averaged image by image before they are compared,
so that a lucky seed is no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from ttr.evaluate.metrics import Predictions, metric
from ttr.evaluate.resampled import resampled
from ttr.statistics import estimates
from ttr.statistics.contrasts import Contrast, contrast
from ttr.statistics.estimates import Groups, Interval
from ttr.statistics.inference import swap_permutation, units_that_differ
from ttr.studies.bench.intervals import NAN, Weights, worth

Arm = Sequence[Predictions]


def of_accuracy(
    first: Arm,
    second: Arm,
    groups: Groups,
    permutations: int,
    seed: int,
) -> Contrast:
    """Return the difference in accuracy, first - second, of predictions matched by seed."""
    right = [np.mean([each.correct for each in arm], axis=0) for arm in (first, second)]
    terms = [(1.0, right[0]), (-1.0, right[1])]
    return contrast(terms, groups=groups, shares=True, permutations=permutations, seed=seed)


def of_metric(
    name: str,
    first: Arm,
    second: Arm,
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
    variance, degrees, images = NAN, 1.0, worth(first[0].targets, groups)
    if weights is not None:
        drawn = [resampled(name, a, weights[0]) - resampled(name, b, weights[0]) for a, b in pairs]
        variance, degrees = float(np.nanvar(np.mean(drawn, axis=0) / bound)), weights[1]
    estimate = estimates.difference_of_variance(
        value, float(changed.mean()), variance, degrees, images, count, bound
    )
    p = swap_permutation(
        lambda swapped: _swapped_differences(name, first, second, swapped),
        count,
        groups=groups,
        permutations=permutations,
        seed=seed,
    )
    return Contrast(value, estimate.interval(), p, count, estimate, units_that_differ(changed, groups))


def contrast_of(row: Any) -> Contrast:
    """Return the difference that a row of ``comparisons.csv`` tells of, to be judged in another family."""
    degrees = float("inf") if row.degrees != row.degrees else float(row.degrees)
    bound = 2.0 if row.metric == "qwk" else 1.0
    n = int(row.n)
    estimate = estimates.Difference(row.difference, row.moved, row.effective, n, degrees, bound)
    return Contrast(row.difference, Interval(row.ci_low, row.ci_high), row.p, n, estimate, int(row.differing))


def _swapped_differences(name: str, first: Arm, second: Arm, swapped: np.ndarray) -> np.ndarray:
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
