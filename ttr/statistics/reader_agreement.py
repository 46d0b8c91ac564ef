"""Do readers agree beyond chance? Krippendorff's alpha of nominal answers, whoever read which case.

    alpha = 1 - D_o / D_e,      D_o, D_e: observed and expected share of pairs of answers that differ,

over all pairs of answers to the same case (Krippendorff 2004). Where two read every case it is nearly Scott's
pi, Cohen's kappa with pooled margins; where more do, nearly Fleiss's kappa. Its interval is over cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttr.statistics.estimates import Interval
from ttr.statistics.inference import RESAMPLES, bootstrap_interval, resample_weights


@dataclass(frozen=True)
class Agreement:
    """How far readers agree.

    Attributes:
        alpha: 1 for always, 0 for chance; NaN where all answers are the same, or no case has two.
        interval: 95 %, over cases.
        agreed: share of the pairs of answers to a case that are the same, 0..1.
        cases: with two answers or more.
    """

    alpha: float
    interval: Interval
    agreed: float
    cases: int


def agreement(codes: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 42) -> Agreement:
    """Return how far readers agree.

    Args:
        codes: the answer of each reader to each case by its number, int [R, C]; -1: none.
        resamples: of the cases.
        seed: of the resamples.
    """
    pairs = coincidences(codes)
    read_twice = pairs.sum(axis=(1, 2)) > 0
    pairs = pairs[read_twice]
    if not len(pairs):
        nothing = Interval(np.nan, np.nan, "no case has two answers")
        return Agreement(np.nan, nothing, np.nan, 0)
    whole = pairs.sum(axis=0)
    value = float(alphas(whole[None])[0])
    drawn = resample_weights(len(pairs), resamples=resamples, seed=seed)
    interval = bootstrap_interval(value, alphas(np.einsum("bc,ckl->bkl", drawn, pairs)))
    return Agreement(value, interval, float(np.trace(whole) / whole.sum()), len(pairs))


def coincidences(codes: np.ndarray) -> np.ndarray:
    """Return the pairs of answers to each case, each weighed by 1 / (answers - 1), float [C, K, K]."""
    kinds = max(int(codes.max(initial=0)) + 1, 1)
    counts = (codes[..., None] == np.arange(kinds)).sum(axis=0).astype(np.float64)
    answers = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(kinds)
    return pairs / np.maximum(answers - 1, 1)[:, None, None]


def alphas(pairs: np.ndarray) -> np.ndarray:
    """Return alpha of summed coincidences, float [B, K, K] -> [B]; NaN where nothing could differ."""
    total, margins = pairs.sum(axis=(1, 2)), pairs.sum(axis=2)
    differ = total - np.trace(pairs, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (total**2 - (margins**2).sum(axis=1)) / (total - 1)
        return np.where(expected > 0, 1 - differ / expected, np.nan)
