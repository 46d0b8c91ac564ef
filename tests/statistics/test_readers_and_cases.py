"""Means over readers and cases, both at random: known tests where one of them is fixed, and held errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ttr.errors import OptionError
from ttr.statistics.readers_and_cases import auc_pseudo_values, over_readers_and_cases

#: Five readers, four cases.
VALUES = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 1, 1]], dtype=float)


def test_cases_that_differ_no_more_than_chance_leave_a_t_test_over_readers():
    noise = np.random.default_rng(0).standard_normal((6, 30))
    noise -= noise.mean(axis=0)  # no case differs from another
    values = noise + np.arange(6)[:, None] / 5
    found = over_readers_and_cases(values)
    reference = stats.ttest_1samp(values.mean(axis=1), 0)
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(reference.confidence_interval()))


def test_a_single_reader_is_taken_as_given():
    found = over_readers_and_cases(VALUES[:1])
    assert found.p == pytest.approx(stats.ttest_1samp(VALUES[0], 0).pvalue)
    assert found.n == 4


def test_the_mean_squares_are_those_of_the_two_way_layout():
    """By sums of squares written out, as a table of an analysis of variance has them."""
    readers, cases = VALUES.shape
    grand = VALUES.sum() ** 2 / VALUES.size
    of_readers = (VALUES.sum(axis=1) ** 2).sum() / cases - grand
    of_cases = (VALUES.sum(axis=0) ** 2).sum() / readers - grand
    rest = (VALUES**2).sum() - grand - of_readers - of_cases
    r, c, rc = of_readers / 4, of_cases / 3, rest / 12
    assert c > rc
    found = over_readers_and_cases(VALUES)
    assert found.estimate.error**2 == pytest.approx((r + c - rc) / 20)
    assert found.estimate.degrees == pytest.approx(min((r + c - rc) ** 2 / (r**2 / 4), 19))


def test_no_difference_is_called_one_in_one_of_twenty_whatever_readers_and_cases_add():
    random = np.random.default_rng(1)
    fired, draws = 0, 1500
    for _ in range(draws):
        values = (
            random.standard_normal((5, 1)) * 0.5
            + random.standard_normal(40)
            + random.standard_normal((5, 40))
        )
        fired += over_readers_and_cases(values).p < 0.05
    assert stats.binomtest(fired, draws, 0.05).pvalue > 0.001


def test_equal_values_are_no_evidence_and_an_interval_keeps_within_its_bound():
    assert over_readers_and_cases(np.zeros((3, 4))).p == 1.0
    assert np.isnan(over_readers_and_cases(np.ones((3, 4))).p)
    wide = over_readers_and_cases(np.array([[1.0, 1, 1], [0, 1, 1]]), bound=1.0)
    assert wide.interval.high == 1.0
    assert over_readers_and_cases(np.array([[1.0, 1, 1], [0, 1, 1]])).interval.high > 1


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 1)), np.full((2, 3), np.nan)])
def test_what_is_no_table_of_readers_and_cases_is_refused(values):
    with pytest.raises(OptionError, match="one a reader and case"):
        over_readers_and_cases(values)


def test_pseudo_values_of_an_area_are_those_of_scikit_learn_without_each_case():
    random = np.random.default_rng(2)
    scores, positive = random.integers(-5, 6, 25).astype(float), random.random(25) < 0.4
    area = roc_auc_score(positive, scores)
    without = [roc_auc_score(np.delete(positive, i), np.delete(scores, i)) for i in range(25)]
    found = auc_pseudo_values(scores, positive)
    np.testing.assert_allclose(found, 25 * area - 24 * np.array(without))
    assert found.mean() == pytest.approx(area)
    assert np.isnan(auc_pseudo_values(scores, np.arange(25) == 3)).all()
