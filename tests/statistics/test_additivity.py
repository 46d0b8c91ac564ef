"""The excess of a collective ablation: known effects, known null, both kinds of metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.statistics.additivity import additivity

SINGLES = ("register-1:zero", "register-2:zero", "register-3:zero")
FAST = {"permutations": 199}


def conditions(count: int, single: float, collective: float, seed: int = 0, noise: float = 0.1):
    """One number an image: a level of its own, an effect, and noise of each run."""
    random = np.random.default_rng(seed)
    level = random.uniform(0, 1, count)
    effects = {"full": 0.0, **dict.fromkeys(SINGLES, single), "registers:zero": collective}
    return {name: level + effect + noise * random.standard_normal(count) for name, effect in effects.items()}


def as_statistics(values):
    return {name: lambda weights, x=x: weights @ x / weights.sum(axis=1) for name, x in values.items()}


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.integers(0, 1000))
def test_the_parts_are_plain_differences_of_means(count, seed):
    values = conditions(count, -0.1, -0.9, seed)
    found = additivity(values, SINGLES, "registers:zero", **FAST)
    means = {name: x.mean() for name, x in values.items()}
    singles = [means[name] - means["full"] for name in SINGLES]
    assert [found.singles[name].value for name in SINGLES] == pytest.approx(singles)
    assert found.total.value == pytest.approx(sum(singles))
    assert found.collective.value == pytest.approx(means["registers:zero"] - means["full"])
    assert found.excess.value == pytest.approx(found.collective.value - found.total.value)


def test_a_collective_loss_beyond_the_parts_is_found():
    found = additivity(conditions(200, -0.05, -0.6), SINGLES, "registers:zero")
    assert found.excess.value == pytest.approx(-0.45, abs=0.05)
    assert found.excess.interval.high < 0
    assert found.excess.p < 0.001


def test_effects_that_add_up_are_rejected_no_oftener_than_the_level_says():
    """200 additive sets at 5 %: 10 of 200, 3 SD of a binomial is 9; the interval covers 0 as often."""
    rejected = missed = 0
    for seed in range(200):
        found = additivity(conditions(60, -0.1, -0.3, seed), SINGLES, "registers:zero", **FAST).excess
        rejected += found.p <= 0.05
        missed += not found.interval.low <= 0 <= found.interval.high
    assert 1 <= rejected <= 20
    assert missed <= 24


def test_a_metric_that_is_no_image_mean_goes_the_same_way():
    values = conditions(50, -0.1, -0.9)
    plain = additivity(values, SINGLES, "registers:zero", **FAST)
    found = additivity(as_statistics(values), SINGLES, "registers:zero", count=50, **FAST)
    assert found.excess.value == pytest.approx(plain.excess.value)
    assert found.excess.p == plain.excess.p
    assert found.excess.interval.low == pytest.approx(plain.excess.interval.low)


def test_an_intersection_over_union_is_taken_on_resampled_images():
    """Each run's number is a ratio of sums: its excess must be that of the ratios, not a mean of ratios."""
    random = np.random.default_rng(0)
    union = random.integers(1, 100, 80).astype(float)
    names = {"full": 0.8, **dict.fromkeys(SINGLES, 0.75), "registers:zero": 0.3}
    hits = {name: union * random.normal(share, 0.02, 80) for name, share in names.items()}
    values = {n: lambda weights, x=x: weights @ x / (weights @ union) for n, x in hits.items()}
    found = additivity(values, SINGLES, "registers:zero", count=80)
    ratio = {name: x.sum() / union.sum() for name, x in hits.items()}
    expected = ratio["registers:zero"] - sum(ratio[s] for s in SINGLES) + 2 * ratio["full"]
    assert found.excess.value == pytest.approx(expected)
    assert found.excess.interval.low < expected < found.excess.interval.high < 0
    assert found.excess.p < 0.001


def test_missing_conditions_are_named():
    values = conditions(5, 0, 0)
    with pytest.raises(OptionError, match="no values of 'register-9:zero'"):
        additivity(values, ["register-9:zero"], "registers:zero")
    with pytest.raises(OptionError, match="one or more single ones"):
        additivity(values, [], "registers:zero")
    with pytest.raises(OptionError, match="each once"):
        additivity(values, [SINGLES[0], SINGLES[0]], "registers:zero")
