"""Intervals and tests against scipy and closed forms, and against simulations of what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.statistics.estimates import Interval
from ttr.statistics.inference import (
    bootstrap_interval,
    mcnemar,
    paired_permutation,
    resample_weights,
    rescaled_weights,
    swap_permutation,
    units_that_differ,
)

SOME = st.lists(st.integers(-3, 3), min_size=1, max_size=9).map(np.array)


def test_resamples_draw_whole_groups_and_as_many_as_there_are():
    plain = resample_weights(7, resamples=500, seed=0)
    assert (plain.sum(axis=1) == 7).all()
    assert abs(plain.mean(axis=0) - 1).max() < 0.2
    groups = ["a", "b", "a", "c", "c", "c"]
    grouped = resample_weights(6, groups=groups, resamples=500, seed=0)
    assert (grouped[:, 0] == grouped[:, 2]).all()
    assert (grouped[:, 3] == grouped[:, 5]).all()
    assert (grouped[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert np.array_equal(grouped, resample_weights(6, groups=groups, resamples=500, seed=0))
    assert not np.array_equal(grouped, resample_weights(6, groups=groups, resamples=500, seed=1))


def test_the_interval_is_scipys_bootstrap_but_for_its_acceleration():
    x = np.random.default_rng(0).exponential(size=120)
    weights = resample_weights(120, resamples=20_000, seed=1)
    ours = bootstrap_interval(x.mean(), weights @ x / 120)
    theirs = scipy.stats.bootstrap((x,), np.mean, method="BCa", n_resamples=20_000, rng=2)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.025)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.025)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """400 samples of an accuracy of .8 on 150 images: 95 % of 400 is 380, 3 SD of a binomial is 13."""
    random = np.random.default_rng(0)
    weights = resample_weights(150, resamples=400, seed=1)
    covered = 0
    for _ in range(400):
        right = random.random(150) < 0.8
        interval = bootstrap_interval(right.mean(), weights @ right / 150)
        covered += interval.low <= 0.8 <= interval.high
    assert 367 <= covered <= 393


def test_images_of_one_patient_are_no_independent_evidence():
    """30 patients with 10 like images each: by image the interval misses far too often, by group not."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 10)
    by_image, by_group = (
        resample_weights(300, resamples=300),
        resample_weights(300, groups=groups, resamples=300),
    )
    covered = np.zeros(2)
    for _ in range(200):
        skill = random.normal(0, 1, 30)
        x = skill[groups] + random.normal(0, 0.3, 300)
        for which, weights in enumerate((by_image, by_group)):
            interval = bootstrap_interval(x.mean(), weights @ x / weights.sum(axis=1))
            covered[which] += interval.low <= 0 <= interval.high
    assert covered[0] < 120
    assert covered[1] > 176


def test_a_number_that_is_often_undefined_has_no_interval():
    few = np.array([np.nan] * 4 + [1.0] * 96)
    assert bootstrap_interval(1, few) == Interval(1, 1)
    assert (
        bootstrap_interval(1, np.array([np.nan] * 10 + [1.0] * 90)).reason
        == "not defined on 10 % of the resamples"
    )


def test_mcnemar_is_scipys_binomial():
    random = np.random.default_rng(0)
    a, b = random.random(200) < 0.8, random.random(200) < 0.7
    found = mcnemar(a, b)
    assert found.only_a == (a & ~b).sum()
    assert found.p == scipy.stats.binomtest(found.only_a, found.only_a + found.only_b).pvalue
    assert mcnemar(a, a).p == 1


def test_few_images_are_enumerated_and_equal_scipys_exact_test():
    a, b = np.array([1.0, 3, 2, 5, 4, 4, 9, 1]), np.array([2.0, 1, 2, 3, 1, 2, 4, 4])
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert paired_permutation(a, b) == pytest.approx(theirs.pvalue)


def test_many_images_are_sampled_and_agree_with_scipys():
    random = np.random.default_rng(0)
    a = random.normal(0.12, 1, 300)
    ours = paired_permutation(a, np.zeros(300))
    theirs = scipy.stats.permutation_test(
        (a, np.zeros(300)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=5000, rng=1
    )
    assert ours == pytest.approx(theirs.pvalue, abs=0.02)
    assert paired_permutation(a, np.zeros(300), seed=1) == paired_permutation(a, np.zeros(300), seed=1)


@settings(max_examples=50, deadline=None)
@given(values=SOME)
def test_swapping_the_arms_changes_no_p(values):
    a, b = values.astype(float), np.zeros(len(values))
    assert paired_permutation(a, b) == paired_permutation(b, a)
    assert 0 < paired_permutation(a, b) <= 1
    if not values.any():
        assert paired_permutation(a, b) == 1


def test_groups_swap_whole():
    a = np.array([1.0, 1, 1, 1, 1, 1, 1, 1])
    assert paired_permutation(a, 0 * a) == pytest.approx(2 / 2**8)
    assert paired_permutation(a, 0 * a, groups=list("aabbccdd")) == pytest.approx(2 / 2**4)


def test_under_the_null_the_test_is_wrong_as_often_as_it_says():
    """400 nulls at 5 %: 20 are expected, 3 SD of a binomial is 13. Both forms of the test."""
    random = np.random.default_rng(0)
    rejected = np.zeros(2)
    for index in range(400):
        pair = (random.random((2, 60)) < 0.75).astype(float)
        rejected[0] += paired_permutation(*pair, permutations=400, seed=index) < 0.05
        difference = pair[0] - pair[1]

        def differences(swapped, difference=difference):
            return np.where(swapped, -difference, difference).mean(axis=1)

        rejected[1] += swap_permutation(differences, 60, permutations=400, seed=index) < 0.05
    assert (rejected >= 7).all()
    assert (rejected <= 33).all()


def test_the_swap_test_is_the_sign_test_for_a_mean_and_cautious_where_undefined():
    difference = np.random.default_rng(0).normal(0.2, 1, 100)

    def differences(swapped):
        return np.where(swapped, -difference, difference).mean(axis=1)

    mean = paired_permutation(difference, np.zeros(100), permutations=5000)
    assert swap_permutation(differences, 100, permutations=5000) == pytest.approx(mean, abs=0.02)

    def sometimes(swapped):
        return np.where(swapped[:, 0], np.nan, differences(swapped))

    assert swap_permutation(sometimes, 100, permutations=2000) > 0.45
    assert np.isnan(swap_permutation(lambda swapped: np.full(len(swapped), np.nan), 10))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(OptionError, match="needed one an image"):
        paired_permutation(np.ones(3), np.ones(2))
    with pytest.raises(OptionError, match="N >= 1"):
        mcnemar(np.ones(0, dtype=bool), np.ones(0, dtype=bool))
    with pytest.raises(OptionError, match="got 2 groups for 3 images"):
        resample_weights(3, groups=["a", "b"])
    with pytest.raises(OptionError, match="count=0"):
        resample_weights(0)
    with pytest.raises(OptionError, match="got 2 groups for 3 images"):
        rescaled_weights(np.zeros(3, dtype=int), groups=["a", "b"])
    with pytest.raises(OptionError, match="a spread needs two"):
        rescaled_weights(np.zeros(3, dtype=int), groups=["a"] * 3)


def test_rescaled_resamples_spread_as_the_mean_of_each_class_does():
    """Within a class of five, s^2 / 5; plain resamples leave a fifth of it out (Rao and Wu 1988)."""
    classes = np.repeat([0, 1], [5, 3])
    weights, degrees = rescaled_weights(classes, resamples=20_000, seed=1)
    assert degrees == 6
    assert np.allclose(weights[:, :5].sum(axis=1), 5)
    assert np.allclose(weights[:, 5:].sum(axis=1), 3)
    x = np.array([1.0, 4, 2, 8, 5])
    assert (weights[:, :5] @ x / 5).var() == pytest.approx(x.var(ddof=1) / 5, rel=0.03)
    assert np.array_equal(weights[:100], rescaled_weights(classes, resamples=20_000, seed=1)[0][:100])


def test_classes_of_one_image_are_drawn_together_and_groups_whole():
    single = np.array([0, 0, 0, 1, 2])
    weights, degrees = rescaled_weights(single, resamples=200)
    assert degrees == 3
    assert weights[:, 3].std() > 0
    alone, degrees = rescaled_weights(np.array([0, 0, 0, 1]), resamples=200)
    assert (degrees, alone[:, 3].std() > 0) == (3, True)
    groups = ["a", "a", "b", "c", "c", "d"]
    nested, degrees = rescaled_weights(np.array([0, 0, 0, 1, 1, 1]), groups=groups, resamples=200)
    assert degrees == 2
    assert (nested[:, 0] == nested[:, 1]).all()
    _, degrees = rescaled_weights(np.array([0, 1, 0, 1, 1, 1]), groups=groups, resamples=200)
    assert degrees == 3


def test_units_that_differ_are_images_or_groups():
    change = np.array([1.0, -1, 0, 1])
    assert units_that_differ(change) == 3
    assert units_that_differ(change, ["a", "a", "b", "c"]) == 1
