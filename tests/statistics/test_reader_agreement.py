"""Krippendorff's alpha: his own example, a closed form for two readers, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

from ttr.statistics.reader_agreement import agreement

#: Krippendorff (2011), Computing Krippendorff's alpha-reliability: four observers, twelve units.
PUBLISHED = (
    "1 2 3 3 2 1 4 1 2 0 0 0",
    "1 2 3 3 2 2 4 1 2 5 0 3",
    "0 3 3 3 2 3 4 2 2 5 1 0",
    "1 2 3 3 2 4 4 1 2 5 1 0",
)


def test_the_published_example():
    codes = np.array([[int(each) - 1 for each in row.split()] for row in PUBLISHED])
    found = agreement(codes)
    assert found.alpha == pytest.approx(0.743, abs=5e-4)
    assert found.interval.low < found.alpha < found.interval.high <= 1
    assert found.cases == 11  # the twelfth was read by one


def test_of_two_readers_it_is_scotts_pi_with_a_correction_for_few_cases():
    random = np.random.default_rng(0)
    first = random.integers(0, 3, 60)
    codes = np.stack([first, np.where(random.random(60) < 0.6, first, random.integers(0, 3, 60))])
    observed = (codes[0] == codes[1]).mean()
    margins = np.bincount(codes.ravel(), minlength=3) / codes.size
    pi = (observed - (margins**2).sum()) / (1 - (margins**2).sum())
    found = agreement(codes)
    assert found.alpha == pytest.approx(1 - (1 - pi) * (codes.size - 1) / codes.size)
    assert found.agreed == pytest.approx(observed)


def test_readers_who_draw_their_answers_agree_as_chance_has_it():
    codes = np.random.default_rng(1).integers(0, 2, (5, 400))
    found = agreement(codes)
    assert found.interval.low < 0 < found.interval.high
    assert agreement(np.repeat(codes[:1], 3, axis=0)).alpha == 1


def test_nothing_is_said_where_nothing_could_differ():
    assert np.isnan(agreement(np.zeros((2, 5), dtype=int)).alpha)
    found = agreement(np.array([[0, -1], [-1, 1]]))
    assert (found.cases, found.interval.reason) == (0, "no case has two answers")
