"""What registers hold, held to closed forms: their likeness, their outlier dimensions, the strongest one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ttr
from ttr.analysis.register_content import (
    alike,
    largest_dimensions,
    outlier_dimensions,
    strongest_token,
)
from ttr.norms import token_norms
from ttr.statistics.inference import resample_weights


def test_pairwise_cosine_is_the_mean_over_pairs():
    random = np.random.default_rng(0)
    x = random.normal(size=(9, 5)) + 1
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = (units @ units.T)[~np.eye(9, dtype=bool)].mean()
    found = alike(x, resample_weights(9))
    assert found.cosine == pytest.approx(expected, abs=1e-12)
    assert found.interval.low < expected < found.interval.high
    assert np.isnan(alike(x[:1], resample_weights(1)).cosine)
    assert alike(np.ones((4, 3)), resample_weights(4)).cosine == pytest.approx(1)


def test_outlier_dimensions_are_named_strongest_first():
    random = np.random.default_rng(1)
    before = random.normal(size=(20, 50))
    before[:, 7] += 300
    before[:, 31] -= 900
    after = random.normal(size=(20, 50))
    found = outlier_dimensions(before, after)
    assert found.dimensions == (31, 7)
    assert found.count == 2
    assert found.share_before > 0.99
    assert found.share_after < 0.2
    assert outlier_dimensions(after, after).count == 0


def test_the_strongest_register_is_chosen_image_by_image():
    backbone = ttr.load("phantom-registers", image_size=64)
    layout = backbone.layout.with_test_time(1)
    tokens = torch.randn(3, layout.length, 8, generator=torch.Generator().manual_seed(0))
    before, after, place = strongest_token(layout, tokens, 2 * tokens)
    registers = tokens[:, 1:6]
    for item in range(3):
        expected = registers[item, token_norms(registers[item]).argmax()]
        assert torch.equal(before[item], expected)
        assert torch.equal(after[item], 2 * expected)
        assert torch.equal(registers[item, place[item]], expected)


def test_without_registers_it_is_the_strongest_patch():
    layout = ttr.load("phantom", image_size=64).layout
    tokens = torch.randn(2, layout.length, 8, generator=torch.Generator().manual_seed(0))
    tokens[0, 1 + 5], tokens[1, 1 + 2] = 50, -60
    tokens[:, 0] = 1000
    before, after, place = strongest_token(layout, tokens, tokens / 2, "patches")
    assert place.tolist() == [5, 2]
    assert before[:, 0].tolist() == [50, -60]
    assert after[:, 0].tolist() == [25, -30]


def test_the_largest_dimensions_are_ordered_by_their_mean_size_before_the_norm():
    random = np.random.default_rng(2)
    before, after = random.normal(size=(6, 30)), random.normal(size=(6, 30))
    before[:, 3] = (-9, 9, -9, 9, -9, 9)  # large in every image, its mean is zero
    found = largest_dimensions(before, after, 4)
    order = sorted(range(30), key=lambda d: -np.mean([abs(row[d]) for row in before]))[:4]
    assert found.dimensions.tolist() == order
    assert order[0] == 3
    assert (found.before[0], found.signed_before[0]) == (9, 0)
    np.testing.assert_allclose(found.after, np.abs(after[:, order]).mean(axis=0))
    np.testing.assert_allclose(found.signed_after, after[:, order].mean(axis=0))
    assert len(largest_dimensions(before, after).dimensions) == 30
