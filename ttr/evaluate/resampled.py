"""The same metrics on thousands of resamples at once: weights in, one value a resample out.

A bootstrap resample only says how often each image counts. So every metric of :mod:`ttr.evaluate.metrics` is
written once more as sums over images with weights, for all resamples in a few matrix products; the tests hold
each to scikit-learn's on the images repeated. NaN marks a resample on which a metric is not defined.
"""

from __future__ import annotations

import numpy as np

from ttr.evaluate import metrics
from ttr.evaluate.metrics import BINS, Predictions, Undefined

CHUNK = 1000


def resampled(name: str, found: Predictions, weights: np.ndarray) -> np.ndarray:
    """Return a metric on each resample.

    Args:
        name: one of :data:`ttr.evaluate.metrics.METRICS`.
        found: the predictions for N images.
        weights: how often each resample drew each image, [R, N].

    Returns:
        float64 [R], NaN where the metric is not defined.

    Raises:
        OptionError: there is no such metric.
    """
    metrics.check_name(name)
    try:
        metrics.require_defined(name, found)
    except Undefined:
        return np.full(len(weights), np.nan)
    parts = np.array_split(weights, max(1, len(weights) // CHUNK))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([_values(name, found, part.astype(np.float64)) for part in parts])


def _values(name: str, found: Predictions, weights: np.ndarray) -> np.ndarray:
    if name == "auc_ovr":
        return _auc_ovr(found, weights)
    if name == "ece":
        place, gap = metrics.bins(found)
        return np.abs(weights @ (np.eye(BINS)[place] * gap[:, None])).sum(axis=1) / weights.sum(axis=1)
    numbers = {
        "top1": lambda: found.correct,
        "top3": lambda: metrics.ranks(found) < 3,
        "brier": lambda: metrics.squared_distances(found),
    }
    if name in numbers:
        return weights @ numbers[name]() / weights.sum(axis=1)
    return _from_confusion(name, _confusions(found, weights))


def _confusions(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of each resample, float64 [R, C, C]."""
    classes = found.probabilities.shape[1]
    cells, place = np.unique(found.targets * classes + found.predicted, return_inverse=True)
    filled = np.zeros((len(weights), classes**2))
    filled[:, cells] = weights @ np.eye(len(cells))[place]
    return filled.reshape(-1, classes, classes)


def _from_confusion(name: str, table: np.ndarray) -> np.ndarray:
    right = np.diagonal(table, axis1=1, axis2=2)
    truth, predicted = table.sum(axis=2), table.sum(axis=1)
    if name == "qwk":
        grades = np.arange(table.shape[1])
        cost = (grades[:, None] - grades) ** 2
        expected = truth[:, :, None] * predicted[:, None, :] / truth.sum(axis=1)[:, None, None]
        return 1 - (cost * table).sum(axis=(1, 2)) / (cost * expected).sum(axis=(1, 2))
    if name == "balanced_accuracy":
        return np.nanmean(right / truth, axis=1)
    scores = {
        "f1_macro": 2 * right / (truth + predicted),
        "precision_macro": right / predicted,
        "recall_macro": right / truth,
    }
    return np.nan_to_num(scores[name]).mean(axis=1)


def _auc_ovr(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """Return the mean over classes of P(score of the class > score of another) + P(equal) / 2."""
    total = np.zeros(len(weights))
    for label in range(found.probabilities.shape[1]):
        scores, place = np.unique(found.probabilities[:, label], return_inverse=True)
        truth = found.targets == label
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(len(scores)))
        own, others = (
            np.add.reduceat((weights * side)[:, order], starts, axis=1) for side in (truth, ~truth)
        )
        below = np.cumsum(others, axis=1) - others
        area = (own * (below + others / 2)).sum(axis=1)
        total += area / (own.sum(axis=1) * others.sum(axis=1))
    return total / found.probabilities.shape[1]
