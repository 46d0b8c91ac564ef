"""What a number is worth: closed forms, hand calculation, scipy's t, and simulated power."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from ttr.errors import OptionError
from ttr.statistics.estimates import (
    Difference,
    Number,
    Share,
    difference,
    few,
    images_needed,
    number,
    share,
    share_of_ratio,
    smallest_detectable_difference,
)
from ttr.statistics.score_intervals import tango, wilson

Z = scipy.stats.norm.ppf(0.975)
RIGHT = np.array([1.0] * 18 + [0.0] * 6)


def test_right_or_wrong_of_independent_images_is_wilson_and_tango():
    assert share(RIGHT) == Share(0.75, 24.0)
    found = share(RIGHT).interval()
    assert (found.low, found.high) == pytest.approx(wilson(0.75, 24, Z))
    moved = np.array([1.0] * 5 + [-1.0] * 2 + [0.0] * 17)
    ours = difference(moved)
    assert ours == Difference(pytest.approx(3 / 24), pytest.approx(7 / 24), 24.0, 24)
    assert (ours.interval().low, ours.interval().high) == pytest.approx(tango(5 / 24, 2 / 24, 24, Z))


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_nothing_collapses_at_0_or_100_percent(right):
    """225 of 225 right: Wilson's lower end is n / (n + z^2)."""
    found = share(np.full(225, right)).interval()
    assert found.high - found.low == pytest.approx(Z**2 / (225 + Z**2))
    shares = share(np.full(40, right), np.repeat(np.arange(8), 5))
    assert (shares.effective, shares.degrees) == (8, 7), "five like images are worth one"
    same = share(np.full(225, 0.04)).interval()
    assert (same.low, same.high) == (0.04, 0.04), "8 of 196 patches in every image: no spread was found"
    none = difference(np.zeros(225)).interval()
    assert none.high == -none.low == pytest.approx(Z**2 / (225 + Z**2), abs=1e-6)


def test_images_of_a_group_are_worth_what_their_spread_says():
    """Groups all right or all wrong: each is one piece of evidence. By hand: r_g = +-5/2, m = 4."""
    groups = np.repeat(["a", "b", "c", "d"], 5)
    alike = np.repeat([1.0, 0.0, 1.0, 0.0], 5)
    variance = 4 / 3 * 4 * 2.5**2 / 20**2
    assert share(alike, groups) == Share(0.5, pytest.approx(0.25 / variance), 3)
    mixed = np.tile([1.0, 1, 1, 1, 0], 4)
    assert share(mixed, groups).effective == 4, "no spread between groups says nothing of it: Kish"
    uneven = np.repeat(["a", "b"], [18, 2])
    assert share(np.ones(20), uneven).effective == pytest.approx(400 / (18**2 + 2**2))
    assert share(np.tile([1.0, 0], 10), np.arange(20).astype(str)).effective <= 20
    assert share(np.ones(3), ["a"] * 3).interval().low < 0.01, "one patient says next to nothing"


def test_several_seeds_an_image_are_worth_more_than_one():
    random = np.random.default_rng(0)
    seeds = (random.random((3, 200)) < 0.8).astype(float)
    assert share(seeds.mean(axis=0)).effective == pytest.approx(600, rel=0.25)
    assert difference(seeds[0] - seeds[1]).effective == 200


def test_a_number_without_bounds_is_students():
    x = np.random.default_rng(0).normal(0.3, 1, 12)
    found = number(x)
    theirs = scipy.stats.ttest_1samp(x, 0).confidence_interval()
    assert (found.interval().low, found.interval().high) == pytest.approx((theirs.low, theirs.high))
    above = scipy.stats.ttest_1samp(x, -0.9, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(x, 0.9, alternative="less").pvalue
    assert found.p_equivalent(0.9) == pytest.approx(max(above, below))
    constant = number(np.full(5, 2.0))
    assert math.isnan(constant.interval().low)
    assert "spread is not known" in constant.interval().reason
    assert math.isnan(constant.p_equivalent(0.1))


def test_equivalence_is_an_interval_of_90_percent_within_the_margin():
    for b, c, n in ((3, 1, 400), (6, 2, 400), (12, 10, 900), (0, 0, 268), (0, 0, 267)):
        found = Difference((b - c) / n, (b + c) / n, n, n)
        inner = found.interval(0.9)
        inside = inner.low > -0.01 and inner.high < 0.01
        assert (found.p_equivalent(0.01) < 0.05) == inside, (b, c, n)


def test_without_discordance_268_images_show_equivalence_within_a_point_and_fewer_do_not():
    """p = 1 - Phi(sqrt(n m / (1 - m))): z = 1.645 at n = z^2 (1 - m) / m = 267.9."""
    none = Difference(0.0, 0.0, 240.0, 240)
    assert none.p_equivalent(0.01) == pytest.approx(scipy.stats.norm.sf(math.sqrt(240 * 0.01 / 0.99)))
    assert none.p_equivalent(0.01) > 0.05
    assert none.needed(0.01, 0.05) == 268
    assert Difference(0.0, 0.0, 268.0, 268).p_equivalent(0.01) < 0.05
    assert none.least_p_equivalent(0.01) == none.p_equivalent(0.01)


def test_a_sum_of_several_shares_is_bounded_by_its_factors():
    """Twice a difference is twice as wide, whatever its scale."""
    moved = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 60)
    one, two = difference(moved), difference(2 * moved, bound=2)
    assert two.interval().high == pytest.approx(2 * one.interval().high, rel=0.02)
    assert difference(np.zeros(50), bound=3).interval().high == pytest.approx(
        3 * difference(np.zeros(50)).interval().high, rel=0.1
    )


def test_the_images_needed_have_the_promised_power():
    """Drawn without a difference, equivalence is shown 80 % of the time; with one, it is told from zero."""
    random, discordant = np.random.default_rng(0), 0.02
    needed = Difference(0.0, discordant, 300.0, 300).needed(0.01, 0.05)
    shown = 0
    for _ in range(400):
        b, c, _ = random.multinomial(needed, [discordant / 2, discordant / 2, 1 - discordant])
        shown += Difference((b - c) / needed, (b + c) / needed, needed, needed).p_equivalent(0.01) < 0.05
    assert 0.74 <= shown / 400 <= 0.92
    assert images_needed(0.5, 1.0, 0.01, 0.05, 0.05) == pytest.approx(
        (Z + scipy.stats.norm.ppf(0.8)) ** 2 / 0.25
    )
    assert Number(0.0, 0.1, 30, 29).needed(0.2, 0.05) == math.ceil(
        30 * 0.01 * (scipy.stats.norm.ppf(0.95) + scipy.stats.norm.ppf(0.9)) ** 2 / 0.04
    )


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
    assert smallest_detectable_difference(count, discordant, alpha=0.005) > d
    assert np.isnan(smallest_detectable_difference(20, 0.1))
    assert np.isnan(smallest_detectable_difference(20, 0))
    with pytest.raises(OptionError, match="discordant=2"):
        smallest_detectable_difference(10, 2)


def test_a_ratio_of_counts_counts_its_images():
    """Nothing left in two images with outliers: z^2 / (2 + z^2) of them may be left, not 0 %."""
    assert share_of_ratio(np.zeros(2), np.array([0.04, 0.04])) == pytest.approx((0, Z**2 / (2 + Z**2)))
    assert share_of_ratio(np.zeros(9), np.r_[np.full(3, 0.04), np.zeros(6)])[1] == pytest.approx(
        Z**2 / (3 + Z**2)
    ), "images without outliers say nothing"
    low, high = share_of_ratio(np.array([0.01, 0.03, 0.02, 0.02]), np.full(4, 0.04))
    assert 0 < low < 0.5 < high < 1
    low, high = share_of_ratio(np.array([0.05, 0.08, 0.06]), np.full(3, 0.04))
    assert low < 19 / 12 < high


def test_few_images_groups_and_small_classes_are_said():
    assert few(200, None) == ""
    assert few(12, None) == "12 images only: the interval rests on a spread that is known badly"
    assert few(200, ["a", "b"] * 100).startswith("2 groups only")
    assert few(225, None, smallest_class=5) == (
        "a class has 5 test images: a macro average over so few is biased"
    )
