"""How far two rankings of the same things agree: at the head, and as a whole.

The overlap at k is m / k, m things being among the first k of both. Were the second ranking drawn at random
from N, m would be hypergeometric, with mean k^2 / N.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Weight of a rank over that of the one before in rank-biased overlap: the first 20 hold four fifths of it.
PERSISTENCE = 0.95


@dataclass(frozen=True)
class Overlap:
    """What two sets, of ``first`` and ``second`` things out of ``total``, share.

    Attributes:
        shared: things in both.
        share: of the smaller set, 0..1.
        chance: the share that two random sets of these sizes have, on average; None where N is not known.
        p: how often random sets share as many or more; None where N is not known.
    """

    shared: int
    share: float
    chance: float | None
    p: float | None


def overlap(first: Sequence[Hashable], second: Sequence[Hashable], total: int | None) -> Overlap:
    """Return what two non-empty sets share, and what chance would let them (hypergeometric, one-sided)."""
    shared, fewer = len(set(first) & set(second)), min(len(first), len(second))
    if total is None:
        return Overlap(shared, shared / fewer, None, None)
    p = stats.hypergeom.sf(shared - 1, total, len(first), len(second))
    return Overlap(shared, shared / fewer, max(len(first), len(second)) / total, float(p))


def rank_biased_overlap(
    first: Sequence[Hashable], second: Sequence[Hashable], persistence: float = PERSISTENCE
) -> float:
    """Return the extrapolated rank-biased overlap of two rankings to the depth of the shorter, 0..1.

    X_k / k p^k + (1 - p) / p sum_d X_d / d p^d, X_d things being shared by the first d (Webber, Moffat and
    Zobel 2010, equation 30).
    """
    depth = min(len(first), len(second))
    seen: tuple[set[Hashable], set[Hashable]] = (set(), set())
    shared, total = 0, 0.0
    for d, pair in enumerate(zip(first[:depth], second[:depth], strict=True), start=1):
        for mine, other, one in ((0, 1, pair[0]), (1, 0, pair[1])):
            seen[mine].add(one)
            shared += one in seen[other]
        total += shared / d * persistence**d
    return shared / depth * persistence**depth + (1 - persistence) / persistence * total


def rank_correlations(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return Kendall's tau-b and Spearman's rho of scores of the same things, NaN where one does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan"), float("nan")
    return float(stats.kendalltau(first, second).statistic), float(stats.spearmanr(first, second).statistic)
