"""Linear CKA against its definitions written out, its invariances, and its interval against simulation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from ttr.analysis.similarity import StreamingCKA, cka_interval, linear_cka, resampled_cka
from ttr.errors import OptionError
from ttr.statistics.inference import resample_weights


def features(seed, images=40, first=6, second=9, noise=2.0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(images, first))
    return x, x @ random.normal(size=(first, second)) + noise * random.normal(size=(images, second))


def by_the_definition(x, y):
    """Equation 4 of Lappe and Giese with the centring matrix H = 1 - 11^T / n."""
    h = np.eye(len(x)) - 1 / len(x)
    k, l = h @ x @ x.T @ h, h @ y @ y.T @ h  # noqa: E741
    return np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l))


def by_quadruples(x, y):
    """The unbiased HSIC as the mean over all quadruples of different images, for each of the three."""
    quadruples = np.array(list(permutations(range(len(x)), 4)))
    i, j, q, r = quadruples.T

    def hsic(a, b):
        k, l = a @ a.T, b @ b.T  # noqa: E741
        return np.mean(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_published_definition(seed):
    x, y = features(seed)
    assert linear_cka(x, y) == pytest.approx(by_the_definition(x, y), abs=1e-12)
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(by_the_definition(x, y), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_debiased_one_is_the_mean_over_quadruples(seed):
    x, y = features(seed, images=9)
    assert linear_cka(x, y, debiased=True) == pytest.approx(by_quadruples(x, y), abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(1e-2, 1e2),
    st.floats(-50, 50),
    st.integers(5, 30),
    st.booleans(),
)
def test_rotation_scaling_and_shift_of_a_side_change_nothing(seed, factor, shift, images, debiased):
    x, y = features(seed, images=images)
    turned = factor * x @ ortho_group.rvs(x.shape[1], random_state=seed) + shift
    expected = linear_cka(x, y, debiased=debiased)
    assert linear_cka(turned, y, debiased=debiased) == pytest.approx(expected, abs=1e-8, nan_ok=True)
    assert linear_cka(y, turned, debiased=debiased) == pytest.approx(expected, abs=1e-8, nan_ok=True)
    assert linear_cka(x, turned, debiased=debiased) == pytest.approx(1, abs=1e-8, nan_ok=True)
    if not debiased:
        assert -1e-12 <= expected <= 1 + 1e-12


def test_a_general_linear_map_is_told_apart():
    x, _ = features(0, images=200)
    assert linear_cka(x, x * [30, 1, 1, 1, 1, 1]) < 0.6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 60), st.integers(1, 60), st.booleans(), st.booleans())
def test_streaming_equals_in_memory_whatever_the_batches(seed, images, batch, debiased, far):
    x, y = features(seed, images=images)
    x, y = (x + 1e4, y - 1e4) if far else (x, y)
    streaming = StreamingCKA()
    for start in range(0, images, batch):
        streaming.add(x[start : start + batch], torch.tensor(y[start : start + batch]))
    expected = linear_cka(x, y, debiased=debiased)
    assert streaming.value(debiased=debiased) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert streaming.images == images


def test_streaming_memory_does_not_grow_with_the_images():
    streaming, sizes = StreamingCKA(), []
    for seed in range(3):
        streaming.add(*features(seed, images=500))
        parts = list(streaming._moments.values())
        sizes.append(sum(t.numel() for m in parts for t in (m.products, *m.by_square)))
    assert len(set(sizes)) == 1


def test_independent_features_are_near_zero_only_when_debiased():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 100)), random.normal(size=(50, 100))
    assert linear_cka(x, y) > 0.5
    assert abs(linear_cka(x, y, debiased=True)) < 0.1


def test_constant_features_have_no_similarity():
    x, _ = features(0)
    streaming = StreamingCKA()
    streaming.add(x, np.ones((40, 3)))
    assert np.isnan(linear_cka(x, np.ones((40, 3))))
    assert np.isnan(streaming.value())
    assert np.isnan(cka_interval(x, np.ones((40, 3)), resample_weights(40), float("nan")).low)


@pytest.mark.parametrize("debiased", [False, True])
def test_every_image_once_is_the_sample_itself(debiased, monkeypatch):
    monkeypatch.setattr("ttr.analysis.similarity.TILE", 7)
    x, y = features(1)
    found = resampled_cka(x, y, np.ones((1, 40), int), debiased=debiased)
    assert found == pytest.approx([linear_cka(x, y, debiased=debiased)], abs=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
def test_resamples_leave_out_the_pairs_of_copies(debiased, monkeypatch):
    """Reference: the resample written out row by row, the Gram entries of copies set to zero."""
    monkeypatch.setattr("ttr.analysis.similarity.TILE", 16)
    x, y = features(2)
    weights = resample_weights(40, resamples=5, seed=3)
    found = resampled_cka(x, y, weights, debiased=debiased)
    for drawn, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(40), drawn)
        same = rows[:, None] == rows
        both = []
        for a, b in ((x, y), (x, x), (y, y)):
            a, b = a[rows] - a.mean(axis=0), b[rows] - b.mean(axis=0)
            if debiased:
                k, l = (np.where(same, 0, part @ part.T) for part in (a, b))  # noqa: E741
                n = len(rows)
                sums = k.sum() * l.sum() / (n - 1) / (n - 2) - 2 * (k.sum(0) @ l.sum(0)) / (n - 2)
                both.append((k * l).sum() + sums)
            else:
                a, b = a - a.mean(axis=0), b - b.mean(axis=0)
                pairs = (a @ a.T) * (b @ b.T)
                both.append(pairs[~same | np.eye(len(rows), dtype=bool)].sum())
        assert value == pytest.approx(both[0] / np.sqrt(both[1] * both[2]), abs=1e-9)


def test_the_interval_holds_what_it_says():
    """60 sets of 64 images with 64 dimensions: about 95 % of the intervals hold the debiased truth."""
    truth = linear_cka(*features_of_one_world(4000, 0), debiased=True)
    held, holds_itself = 0, 0
    for seed in range(1, 61):
        x, y = features_of_one_world(64, seed)
        weights = resample_weights(64, resamples=200)
        value = linear_cka(x, y, debiased=True)
        interval = cka_interval(x, y, weights, value, debiased=True)
        held += interval.low <= truth <= interval.high
        plain = cka_interval(x, y, weights, linear_cka(x, y))
        holds_itself += plain.low <= linear_cka(x, y) <= plain.high
    assert held >= 53
    assert holds_itself == 60


def features_of_one_world(images, seed):
    random, world = np.random.default_rng([seed, 5]), np.random.default_rng(99)
    x = random.normal(size=(images, 64)) * np.linspace(3, 0.1, 64)
    return x, x @ world.normal(size=(64, 64)) + 10 * random.normal(size=(images, 64))


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.ones((5, 2)), np.ones((4, 2)), r"shapes \(5, 2\) and \(4, 2\)"),
        (np.ones(5), np.ones((5, 2)), r"needed \[n, d1\]"),
        (np.ones((3, 2)), np.ones((3, 2)), "CKA of 3 images; needed 4 or more"),
        (np.full((5, 2), np.nan), np.ones((5, 2)), "NaN or infinite"),
    ],
)
def test_bad_features_are_refused(x, y, says):
    with pytest.raises(OptionError, match=says):
        linear_cka(x, y)


def test_streaming_refuses_other_widths_and_too_few():
    streaming = StreamingCKA()
    streaming.add(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(OptionError, match=r"widths \(4, 4\); the batches before had \(3, 4\)"):
        streaming.add(np.ones((2, 4)), np.ones((2, 4)))
    with pytest.raises(OptionError, match="CKA of 2 images"):
        streaming.value()
    with pytest.raises(OptionError, match="needed \\[b, d\\]"):
        streaming.add(np.ones(3), np.ones((3, 1)))
