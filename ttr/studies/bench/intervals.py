"""The interval of each metric: of a mean over images from these, else from resamples within the classes.

The variance over the rescaled resamples of Rao and Wu (1988) says how many images a macro average is worth
(:mod:`ttr.statistics.estimates`). Their mean is no help against its bias: over few images a macro precision
is too high, and lower yet on resamples, which lose classes.
"""

from __future__ import annotations

import numpy as np

from ttr.evaluate import metrics
from ttr.evaluate.metrics import Predictions
from ttr.evaluate.resampled import resampled
from ttr.statistics import estimates
from ttr.statistics.estimates import Groups, Interval
from ttr.statistics.inference import TOO_MANY_UNDEFINED, rescaled_weights

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
NAN = float("nan")
#: Weights of resamples and their degrees of freedom, or None where there is but one image or group.
Weights = tuple[np.ndarray, float] | None


def metric_weights(targets: np.ndarray, groups: Groups, resamples: int, seed: int) -> Weights:
    """Return resamples of the test images within their classes, ``targets`` int [N]; None of a single one."""
    if len(targets if groups is None else set(groups)) < 2:
        return None
    return rescaled_weights(targets, groups=groups, resamples=resamples, seed=seed)


def metric_interval(
    name: str, value: float, found: Predictions, groups: Groups, weights: Weights
) -> Interval:
    """Return the 95 % interval of a metric of :data:`ttr.evaluate.metrics.METRICS`, or why there is none.

    Args:
        name: the metric.
        value: its value on the test images.
        found: what was predicted.
        groups: of the test images.
        weights: of :func:`metric_weights`.
    """
    if name in NO_INTERVAL:
        return Interval(NAN, NAN, NO_INTERVAL[name])
    if name in MEANS:
        numbers, factor = MEANS[name]
        interval = estimates.share(np.asarray(numbers(found), dtype=float), groups).interval()
        return Interval(factor * interval.low, factor * interval.high)
    if weights is None:
        return Interval(NAN, NAN, "one image or group has no spread")
    values = resampled(name, found, weights[0])
    missing = np.isnan(values).mean()
    if missing > TOO_MANY_UNDEFINED:
        return Interval(NAN, NAN, f"not defined on {100 * missing:.0f} % of the resamples")
    least = -1.0 if name == "qwk" else 0.0
    known = (values[np.isfinite(values)] - least) / (1 - least)
    own = (value - least) / (1 - least)
    if name == "qwk" and np.ptp(known) < ROUNDING:
        return Interval(NAN, NAN, "no resample differs: its spread is not known")
    variance = float(known.var()) if np.ptp(known) >= ROUNDING else 0.0
    ends = estimates.share_of_variance(own, variance, weights[1], worth(found.targets, groups)).interval()
    return Interval(least + (1 - least) * ends.low, least + (1 - least) * ends.high)


def worth(targets: np.ndarray, groups: Groups) -> float:
    """Return how many images a macro average is worth if all classes are equally hard: C^2 / sum_c 1 / n_c.

    n_c: the images of a class, or as many as the groups where they belong together.
    """
    counts = np.unique(targets, return_counts=True)[1]
    units = estimates.spread(targets, groups)[2] / len(targets)
    return max(1.0, units * len(counts) ** 2 / float((1 / counts).sum()))
