"""Filled-in pixels against the same system written down densely, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ttr.errors import OptionError
from ttr.evaluate.imputation import imputed


def densely(image, missing):
    """One equation a pixel: what is there is what it is, the rest is the mean of what is around it."""
    height, width = missing.shape
    system, right = np.eye(height * width), np.where(missing, 0, image).reshape(len(image), -1).T
    for row, column in np.argwhere(missing):
        around = {
            (row + down, column + across): (1 / 12 if down and across else 1 / 6)
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if (down or across) and 0 <= row + down < height and 0 <= column + across < width
        }
        for (y, x), weight in around.items():
            system[row * width + column, y * width + x] = -weight / sum(around.values())
    return np.linalg.solve(system, right).T.reshape(image.shape)


def test_missing_pixels_are_the_mean_of_what_is_around_them():
    draw = np.random.default_rng(0)
    image, missing = draw.normal(size=(3, 12, 9)), draw.random((12, 9)) < 0.6
    missing[:2] = True  # up to the edges, and a part without a known neighbour
    found = imputed(torch.from_numpy(image), missing, 0, noise=0)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, densely(image, missing), atol=1e-6)
    assert np.array_equal(found[:, ~missing], image[:, ~missing].astype(np.float32))


def test_a_flat_image_stays_flat_but_for_the_noise():
    flat, missing = torch.full((3, 40, 40), 2.0), np.zeros((40, 40), dtype=bool)
    missing[:, 10:] = True
    assert torch.allclose(imputed(flat, missing, 0, noise=0), flat, atol=1e-6)
    noisy = imputed(flat, missing, 0)
    assert float((noisy - flat)[:, missing].std()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(noisy[:, ~missing], flat[:, ~missing])
    assert torch.equal(noisy, imputed(flat, missing, 0))
    assert not torch.equal(noisy, imputed(flat, missing, 1))


def test_nothing_and_everything_missing():
    image = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(imputed(image, np.zeros((6, 6), dtype=bool), 0), image)
    assert not imputed(image, np.ones((6, 6), dtype=bool), 0, noise=0).any()
    with pytest.raises(OptionError, match="missing pixels"):
        imputed(image, np.ones((5, 6), dtype=bool), 0)
