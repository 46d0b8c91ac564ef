"""Layer-wise probes against scikit-learn, on features whose content is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from ttr.analysis.probing import default_layers, probe_layers
from ttr.errors import OptionError

LAYERS, TOKENS = (0, 5, 11), ("cls", "register-1")


def features(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes; the CLS tells them at layer 11 alone, the register at 5 and 11."""
    random = np.random.default_rng(seed)
    y = random.choice(3, count, p=[0.5, 0.3, 0.2])
    x = random.standard_normal((count, 3, 2, 6)).astype(np.float32)
    for layer, token in ((2, 0), (1, 1), (2, 1)):
        x[:, layer, token, :3] += 3 * np.eye(3)[y]
    return x * 10 + 100, y


def probes(train, test, **options):
    return list(probe_layers(train, test, layers=LAYERS, tokens=TOKENS, **options))


def test_each_probe_is_scikit_learns_logistic_regression_on_standardised_features():
    train, test = features(150, 0), features(90, 1)
    found = probes(train, test)
    assert [(p.layer, p.token) for p in found] == [(n, t) for n in LAYERS for t in TOKENS]
    for i, probe in enumerate(found):
        x, held_out = (part[0][:, i // 2, i % 2].astype(float) for part in (train, test))
        mean, sd = x.mean(axis=0), x.std(axis=0)
        model = LogisticRegression(C=0.1, max_iter=1000).fit((x - mean) / sd, train[1])
        assert np.array_equal(probe.correct, model.predict((held_out - mean) / sd) == test[1])
        assert probe.accuracy == probe.correct.mean()
        assert probe.interval.low < probe.accuracy < probe.interval.high


def test_content_is_found_where_it_is_and_chance_where_it_is_not():
    train, test = features(300, 2), features(200, 3)
    found = {(p.layer, p.token): p for p in probes(train, test)}
    chance = DummyClassifier(strategy="most_frequent").fit(*train).score(*test)
    readable = {(11, "cls"), (5, "register-1"), (11, "register-1")}
    for place, probe in found.items():
        assert probe.chance == pytest.approx(chance)
        if place in readable:
            assert probe.interval.low > chance
            assert probe.p < 0.001
        else:
            assert probe.interval.low <= chance + 0.02
            assert probe.p > 0.01


def test_a_probe_depends_on_no_seed_and_groups_widen_the_interval():
    train, test = features(150, 0), features(60, 1)
    one, other = probes(train, test, seed=1), probes(train, test, seed=2)
    assert all(np.array_equal(a.correct, b.correct) for a, b in zip(one, other, strict=True))
    again = probes(train, test, seed=1)
    assert [(a.interval, a.p) for a in again] == [(a.interval, a.p) for a in one]
    repeated = np.repeat(test[0], 5, axis=0), np.repeat(test[1], 5)
    groups = [str(i // 5) for i in range(300)]
    by_image, by_group = probes(train, repeated)[0], probes(train, repeated, groups=groups)[0]
    widths = [probe.interval.high - probe.interval.low for probe in (by_image, by_group)]
    assert widths[1] > 1.5 * widths[0]
    assert by_group.p > 2 * by_image.p


@given(st.integers(1, 60), st.integers(2, 12))
def test_default_layers_are_spread_from_first_to_last(num_layers, count):
    found = default_layers(num_layers, count)
    assert found[0] == 0
    assert found[-1] == num_layers - 1
    assert list(found) == sorted(set(found))
    assert len(found) == min(count, num_layers)
    gaps = np.diff(found)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_the_published_seven_of_twelve():
    assert default_layers(12) == (0, 2, 4, 6, 8, 10, 11)
    assert default_layers(24) == (0, 4, 8, 12, 16, 20, 23)


def test_bad_input_is_refused():
    train, test = features(30, 0), features(20, 1)
    with pytest.raises(OptionError, match="num_layers=0"):
        default_layers(0)
    with pytest.raises(OptionError, match="2 to choose"):
        default_layers(12, 1)
    with pytest.raises(OptionError, match=r"test features \(20, 3, 2, 6\) with 19 targets"):
        probes(train, (test[0], test[1][:19]))
    with pytest.raises(OptionError, match="train features of width 6, test of 5"):
        probes(train, (test[0][..., :5], test[1]))
    with pytest.raises(OptionError, match="all training images are of one class"):
        probes((train[0], np.zeros_like(train[1])), test)
    with pytest.raises(OptionError, match="train features hold NaN"):
        probes((np.full_like(train[0], np.nan), train[1]), test)
