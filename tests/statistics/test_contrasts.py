"""Signed sums of numbers against scipy, closed forms, and simulations of what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.statistics.contrasts import contrast, pseudo_values

FAST = {"permutations": 200}


def mean_of(values):
    """An image mean, written as the statistic of resampled images that it is."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def ratio_of(tops, bottoms):
    """A ratio of sums, as an intersection over union is."""
    return lambda weights: weights @ tops / (weights @ bottoms)


def numbers(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def test_two_numbers_are_the_paired_test_of_scipy():
    a, b = numbers(40), numbers(40, 1) + 0.4
    found = contrast([(1, a), (-1, b)])
    assert found.value == pytest.approx((a - b).mean())
    assert found.n == 40
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert found.p == pytest.approx(theirs.pvalue, abs=0.01)
    interval = scipy.stats.bootstrap((a - b,), np.mean, method="percentile", n_resamples=5000, rng=1)
    assert found.interval.low == pytest.approx(interval.confidence_interval.low, abs=0.04)
    assert found.interval.high == pytest.approx(interval.confidence_interval.high, abs=0.04)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000), st.booleans())
def test_an_array_and_its_mean_as_a_statistic_are_one_test(count, seed, grouped):
    a, b = numbers(count, seed), numbers(count, seed + 1)
    groups = [str(i // 3) for i in range(count)] if grouped else None
    plain = contrast([(1, a), (-2, b)], groups=groups, **FAST)
    resampled = contrast([(1, mean_of(a)), (-2, mean_of(b))], count=count, groups=groups, **FAST)
    assert resampled.value == pytest.approx(plain.value)
    assert (resampled.p, resampled.n) == (plain.p, plain.n)
    assert resampled.interval.low == pytest.approx(plain.interval.low, nan_ok=True)
    assert resampled.interval.high == pytest.approx(plain.interval.high, nan_ok=True)


@given(st.integers(2, 30), st.integers(0, 1000))
def test_pseudo_values_of_a_mean_are_the_images_own_numbers(count, seed):
    values = numbers(count, seed)
    np.testing.assert_allclose(pseudo_values(mean_of(values), count), values, atol=1e-9)


def test_pseudo_values_of_a_ratio_are_the_textbooks():
    """Their standard error is the delta method's for a ratio of means."""
    random = np.random.default_rng(0)
    bottoms = random.uniform(1, 2, 700)
    tops = bottoms * random.uniform(0.2, 0.6, 700)
    found = pseudo_values(ratio_of(tops, bottoms), 700)
    ratio = tops.sum() / bottoms.sum()
    assert found.mean() == pytest.approx(ratio, abs=1e-4)
    np.testing.assert_allclose(found - ratio, (tops - ratio * bottoms) / bottoms.mean(), atol=1e-3)


def test_the_test_of_a_ratio_rejects_as_often_as_it_says():
    """300 pairs of equal ratios at the 5 % level: 15 of 300, 3 SD of a binomial is 11."""
    random = np.random.default_rng(0)
    rejected = 0
    for _ in range(300):
        bottoms = random.uniform(1, 2, (2, 40))
        tops = bottoms * random.uniform(0.2, 0.6, (2, 40))
        terms = [(1, ratio_of(tops[0], bottoms[0])), (-1, ratio_of(tops[1], bottoms[1]))]
        rejected += contrast(terms, count=40, permutations=199).p <= 0.05
    assert 4 <= rejected <= 26


@pytest.mark.parametrize("resampled", [False, True])
def test_images_of_one_group_are_one_piece_of_evidence(resampled):
    """Three like images a group: the p is that of the groups, far above that of as many images."""
    each = numbers(8) + 0.7
    values = np.repeat(each, 3)
    groups = [str(i // 3) for i in range(24)]
    measured = mean_of(values) if resampled else values
    count = 24 if resampled else None
    by_group = contrast([(1, measured)], count=count, groups=groups)
    assert by_group.p == pytest.approx(contrast([(1, each)]).p, abs=1e-9)
    assert by_group.p > 5 * contrast([(1, measured)], count=count).p


def test_images_without_a_number_are_left_out_of_every_condition():
    a, b = numbers(20), numbers(20, 1)
    groups = [str(i // 2) for i in range(20)]
    holes_a, holes_b = a.copy(), b.copy()
    holes_a[3], holes_b[[3, 8]] = np.nan, np.nan
    kept = [i for i in range(20) if i not in (3, 8)]
    found = contrast([(1, holes_a), (-1, holes_b)], groups=groups, **FAST)
    expected = contrast([(1, a[kept]), (-1, b[kept])], groups=[groups[i] for i in kept], **FAST)
    assert found == expected
    assert found.n == 18


def test_nothing_to_compare_is_refused():
    a = numbers(5)
    with pytest.raises(OptionError, match="at least one"):
        contrast([])
    with pytest.raises(OptionError, match=r"shapes \[\(4,\), \(5,\)\]"):
        contrast([(1, a), (-1, a[:4])])
    with pytest.raises(OptionError, match="needed one an image"):
        contrast([(1, a[None])])
    with pytest.raises(OptionError, match="no image has a number"):
        contrast([(1, a), (1, np.full(5, np.nan))])
    with pytest.raises(OptionError, match="needed count=, and no arrays"):
        contrast([(1, mean_of(a))])
    with pytest.raises(OptionError, match="needed count=, and no arrays"):
        contrast([(1, mean_of(a)), (-1, a)], count=5)
    with pytest.raises(OptionError, match="got 4 groups for 5 images"):
        contrast([(1, a)], groups=list("abcd"))
