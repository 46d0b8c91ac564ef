"""Wilson's interval against scipy's, Tango's against published examples and closed forms."""

from __future__ import annotations

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ttr.statistics.score_intervals import critical, tango, tango_statistic, wilson

Z = scipy.stats.norm.ppf(0.975)


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilsons_interval_is_scipys(n, place, confidence):
    right = round(place * n)
    theirs = scipy.stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    ours = wilson(right / n, n, critical(confidence, math.inf))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_quantile_is_students_or_the_normal_one():
    assert critical(0.95, math.inf) == pytest.approx(1.959964, abs=1e-6)
    assert critical(0.95, 9) == pytest.approx(2.262157, abs=1e-6)


def test_tangos_interval_is_the_published_one():
    """Airway hyper-responsiveness before and after stem cell transplantation, 1 and 7 discordant of 21
    (Bentur et al. 2009): -.517 to -.026 by Tango's score interval (Fagerland, Lydersen and Laake 2014)."""
    low, high = tango(1 / 21, 7 / 21, 21, Z)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize("n", [1, 5, 44, 240])
def test_without_discordance_its_width_is_the_closed_form(n):
    """T(Delta)^2 = n Delta / (1 - Delta) then, which is z^2 at Delta = z^2 / (n + z^2)."""
    end = Z**2 / (n + Z**2)
    assert tango(0, 0, n, Z) == pytest.approx((-end, end), abs=1e-7)
    assert tango_statistic(0, 0, n, -end) == pytest.approx(Z)


@pytest.mark.parametrize("n", [3, 30])
def test_where_every_pair_is_discordant_one_way_its_end_is_the_closed_form(n):
    """T(Delta)^2 = n (1 - Delta) / (1 + Delta) then."""
    low, high = tango(1, 0, n, Z)
    assert high == 1
    assert low == pytest.approx((n - Z**2) / (n + Z**2), abs=1e-6)


@given(st.integers(2, 100), st.data())
def test_its_ends_are_where_the_statistic_is_the_quantile(n, data):
    b = data.draw(st.integers(0, n))
    c = data.draw(st.integers(0, n - b))
    low, high = tango(b / n, c / n, n, Z)
    assert -1 <= low <= (b - c) / n <= high <= 1
    for end in (low, high):
        if abs(end) < 1:
            assert abs(tango_statistic(b / n, c / n, n, end)) == pytest.approx(Z, rel=1e-3)
    back = tango(c / n, b / n, n, Z)
    assert (low, high) == pytest.approx((-back[1], -back[0]), abs=1e-6)


def test_at_no_difference_it_is_mcnemars_statistic():
    """T(0)^2 = (b - c)^2 / (b + c)."""
    assert tango_statistic(12 / 50, 4 / 50, 50, 0) == pytest.approx((12 - 4) / math.sqrt(12 + 4))


def test_an_interval_holds_its_own_share_to_the_last_bit():
    quantile = critical(0.95, math.inf)
    for n in range(1, 200):
        for share in (0.0, 1.0):
            low, high = wilson(share, n, quantile)
            assert low <= share <= high


@pytest.mark.parametrize("scale", [1e-6, 1e-9, 1e-10, 1e-11, 1e-12])
def test_numbers_that_differ_in_their_last_digits_have_an_interval_around_nothing(scale):
    """Shares of the same images in two precisions, whose interval is narrower than any step of a search."""
    low, high = tango(3 * scale, scale, 100 / scale, 2.57)
    assert low <= 2 * scale <= high
    assert max(-low, high) <= 10 * scale + 3e-9
