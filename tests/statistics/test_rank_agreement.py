"""Overlap against all draws there are, rank-biased overlap against its definition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ttr.statistics.rank_agreement import overlap, rank_biased_overlap, rank_correlations


def test_chance_is_what_all_draws_of_the_second_set_say():
    first, second, total = [0, 1, 2], [1, 2, 3, 4], 8
    found = overlap(first, second, total)
    drawn = [len(set(first) & set(each)) for each in combinations(range(total), len(second))]
    assert (found.shared, found.share) == (2, 2 / 3)
    assert found.chance == pytest.approx(np.mean(drawn) / 3)
    assert found.p == pytest.approx(np.mean(np.array(drawn) >= 2))
    assert overlap(first, second, None).p is None


def test_rank_biased_overlap_is_the_weighted_agreement_of_all_depths():
    """Beyond the lists they are taken to go on agreeing as they do at their ends."""
    first, second, p = "abcdef", "bazcyx", 0.9
    agreement = [len(set(first[:d]) & set(second[:d])) / d for d in range(1, 7)]
    agreement += [agreement[-1]] * 2000
    expected = (1 - p) * sum(a * p**d for d, a in enumerate(agreement))
    assert rank_biased_overlap(first, second, p) == pytest.approx(expected)
    assert rank_biased_overlap(first, first) == pytest.approx(1)
    assert rank_biased_overlap("ab", "cd") == 0


def test_correlations_of_ranks_by_hand():
    tau, rho = rank_correlations(np.array([1.0, 2, 3, 4]), np.array([10.0, 30, 20, 40]))
    assert tau == pytest.approx((5 - 1) / 6)
    assert rho == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert np.isnan(rank_correlations(np.ones(3), np.arange(3.0))).all()
