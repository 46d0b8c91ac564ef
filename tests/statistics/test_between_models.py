"""The difference of an ablation's effect between two models: scipy's permutation test, and its levels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from ttr.errors import OptionError
from ttr.statistics.between_models import between_models
from ttr.statistics.verdict import judge

FAST = {"permutations": 199}


def model(count: int, effects: dict[str, float], seed: int) -> dict[str, np.ndarray]:
    """Right or wrong, an image a number; an ablation turns some of the right ones."""
    random = np.random.default_rng(seed)
    full = random.random(count) < 0.7
    runs = {"full": full.astype(float)}
    for name, loss in effects.items():
        runs[name] = (full & (random.random(count) > loss)).astype(float)
    return runs


def test_it_is_scipys_permutation_test_of_the_effects():
    a = model(60, {"registers:zero": 0.5}, 0)
    b = model(60, {"registers:zero": 0.2}, 1)
    (found,) = between_models(a, b)
    effects = [run["registers:zero"] - run["full"] for run in (a, b)]
    assert found.effect_a.value == pytest.approx(effects[0].mean())
    assert found.effect_b.value == pytest.approx(effects[1].mean())
    assert found.difference.value == pytest.approx(effects[0].mean() - effects[1].mean())
    theirs = scipy.stats.permutation_test(
        effects, lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert found.difference.p == pytest.approx(theirs.pvalue, abs=0.01)


def test_more_dependence_is_a_lower_effect_and_none_is_not_distinguishable():
    losses = {"registers:zero": 0.6, "registers:mean": 0.02}
    a = model(400, losses, 0)
    b = model(400, {**losses, "registers:zero": 0.1}, 1)
    zero, mean = between_models(a, b, shares=True)
    judged = judge([zero.difference, mean.difference])
    assert (zero.condition, judged[0].verdict) == ("registers:zero", "lower")
    assert zero.difference.interval.high < 0
    assert (mean.condition, judged[1].verdict) == ("registers:mean", "not distinguishable")
    back, _ = between_models(b, a, shares=True)
    assert judge([back.difference])[0].verdict == "higher"
    assert back.difference.value == pytest.approx(-zero.difference.value)


def test_equal_dependence_is_rejected_no_oftener_than_the_level_says():
    """300 pairs of models with one loss: 15 of 300 at 5 %, 3 SD of a binomial is 11."""
    rejected = 0
    for seed in range(300):
        a, b = (model(80, {"registers:zero": 0.3}, 2 * seed + which) for which in range(2))
        rejected += between_models(a, b, **FAST)[0].difference.p <= 0.05
    assert 3 <= rejected <= 26


def test_statistics_of_resampled_images_and_groups_are_taken_too():
    a, b = (model(30, {"cls:zero": loss}, seed) for seed, loss in enumerate((0.5, 0.1)))

    def as_statistics(runs):
        return {n: lambda weights, x=x: weights @ x / weights.sum(axis=1) for n, x in runs.items()}

    groups = [str(i // 2) for i in range(30)]
    (plain,) = between_models(a, b, groups=groups, **FAST)
    (found,) = between_models(as_statistics(a), as_statistics(b), count=30, groups=groups, **FAST)
    assert found.difference.value == pytest.approx(plain.difference.value)
    assert found.difference.p == pytest.approx(plain.difference.p, abs=0.02)


def test_what_cannot_be_compared_is_refused():
    a, b = model(10, {"cls:zero": 0.5, "cls:mean": 0}, 0), model(10, {"cls:zero": 0.5}, 1)
    assert [found.condition for found in between_models(a, b, **FAST)] == ["cls:zero"]
    with pytest.raises(OptionError, match="no values of 'cls:mean' in one of the models"):
        between_models(a, b, conditions=["cls:mean"])
    with pytest.raises(OptionError, match="one or more other conditions in both"):
        between_models(a, {"full": a["full"]})
    with pytest.raises(OptionError, match=r"shapes \[\(9,\), \(10,\)\]"):
        between_models(a, {name: x[:9] for name, x in b.items()})
