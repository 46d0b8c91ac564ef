"""Intervals and tests against scipy and closed forms, and against simulations of what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.evaluate.metrics import Predictions, metric
from ttr.evaluate.resampled import resampled
from ttr.statistics.inference import (
    Interval,
    bootstrap_interval,
    holm,
    mcnemar,
    paired_permutation,
    resample_weights,
    smallest_detectable_difference,
    swap_permutation,
    verdict,
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
        == "not defined on 10% of the resamples"
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


@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_closed_form(p):
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - place) * p[index]))
        assert adjusted[index] == pytest.approx(running)
    assert all(a >= raw for a, raw in zip(adjusted, p, strict=True))


def test_holm_leaves_what_was_no_test_out():
    adjusted = holm([0.01, float("nan"), 0.03])
    assert (adjusted[0], adjusted[2]) == (0.02, 0.03)
    assert np.isnan(adjusted[1])


def test_the_smallest_detectable_difference_is_found_with_the_promised_power():
    """300 images, 20 % discordant: drawn with that difference, McNemar rejects 80 % of the time, a bit less
    since the exact test is cautious."""
    count, discordant = 300, 0.2
    d = smallest_detectable_difference(count, discordant)
    random = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        only_a, only_b, _ = random.multinomial(
            count, [(discordant + d) / 2, (discordant - d) / 2, 1 - discordant]
        )
        rejected += scipy.stats.binomtest(only_a, only_a + only_b).pvalue < 0.05
    assert 0.68 <= rejected / 400 <= 0.86
    assert smallest_detectable_difference(1200, discordant) < d
    assert np.isnan(smallest_detectable_difference(20, 0.1))
    assert np.isnan(smallest_detectable_difference(20, 0))


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.01, 0.05, 0.01, "higher"),
        (-0.05, -0.01, 0.01, "lower"),
        (-0.01, 0.05, 0.01, "not distinguishable"),
        (0.01, 0.05, 0.06, "not distinguishable"),
        (0.0, 0.05, 0.01, "not distinguishable"),
        (0.01, 0.05, float("nan"), "not distinguishable"),
        (float("nan"), float("nan"), 0.01, "not distinguishable"),
    ],
)
def test_a_difference_is_called_one_only_if_both_say_so(low, high, p, expected):
    assert verdict(Interval(low, high), p) == expected


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(OptionError, match="needed one a image"):
        paired_permutation(np.ones(3), np.ones(2))
    with pytest.raises(OptionError, match="N >= 1"):
        mcnemar(np.ones(0, dtype=bool), np.ones(0, dtype=bool))
    with pytest.raises(OptionError, match="2 groups were given for 3 images"):
        resample_weights(3, groups=["a", "b"])
    with pytest.raises(OptionError, match="count=0"):
        resample_weights(0)
    with pytest.raises(OptionError, match="discordant=2"):
        smallest_detectable_difference(10, 2)


def test_a_macro_average_over_many_small_classes_is_covered():
    """30 classes of 5 images, each right with its own chance: the truth is the mean chance."""
    random = np.random.default_rng(0)
    chances = random.uniform(0.3, 1, 30)
    y = np.repeat(np.arange(30), 5)
    weights = resample_weights(150, resamples=300, seed=1)
    covered = 0
    for _ in range(100):
        right = random.random(150) < chances[y]
        p = 0.1 * np.eye(30)[(y + 1) % 30] + 0.9 * np.eye(30)[np.where(right, y, (y + 1) % 30)]
        found = Predictions(y, p)
        interval = bootstrap_interval(
            metric("recall_macro", found).value, resampled("recall_macro", found, weights)
        )
        covered += interval.low <= chances.mean() <= interval.high
    assert covered >= 85
