"""What registers hold, held to closed forms: their likeness, their outlier dimensions, the strongest one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ttr
from ttr.analysis.register_content import alike, outlier_dimensions, strongest_register
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
    before, after = strongest_register(layout, tokens, 2 * tokens)
    registers = tokens[:, 1:6]
    for item in range(3):
        expected = registers[item, token_norms(registers[item]).argmax()]
        assert torch.equal(before[item], expected)
        assert torch.equal(after[item], 2 * expected)
