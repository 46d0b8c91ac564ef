"""Insertion and deletion by hand: which pixels each step shows, and what the areas come to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import auc

from ttr.errors import OptionError
from ttr.evaluate.imputation import imputed
from ttr.evaluate.insertion import BLANKS, SHARES, areas, blurred, curve_names, order_of, shown_pixels, steps

GRID = (2, 5)


@pytest.fixture
def image():
    return torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))


def test_each_step_shows_the_next_tenth_of_the_strongest_patches(image):
    relevance = np.arange(10.0).reshape(GRID)[::-1]
    order = order_of(relevance, 0)
    assert order.tolist() == [4, 3, 2, 1, 0, 9, 8, 7, 6, 5]
    found = steps(image, order, GRID, ["zero"])[: len(SHARES)]
    assert found.shape == (len(SHARES), 3, 8, 20)
    for step in range(11):
        expected = torch.zeros_like(image)
        for patch in order[:step]:
            row, column = divmod(int(patch), 5)
            place = (slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            expected[place] = image[place]
        assert torch.equal(found[step], expected)
    with pytest.raises(OptionError, match="needed each of 2 x 5 once"):
        shown_pixels(order[:9], GRID, (8, 20))


def test_the_curves_begin_and_end_where_they_must(image):
    order = order_of(np.random.default_rng(0).random(GRID), 0)
    images = steps(image, order, GRID, BLANKS, seed=5).split(len(SHARES))
    found = dict(zip(curve_names(BLANKS), images, strict=True))
    zero, blur, road = torch.zeros_like(image), blurred(image), imputed(image, np.ones((8, 20), bool), 5)
    ends = {
        "insertion_zero": (zero, image),
        "insertion_blur": (blur, image),
        "insertion_road": (road, image),
        "deletion_zero": (image, zero),
        "deletion_blur": (image, blur),
        "deletion_road": (image, road),
    }
    for name, (first, last) in ends.items():
        assert torch.equal(found[name][0], first)
        assert torch.equal(found[name][-1], last)
    assert torch.equal(found["insertion_zero"][3] + found["deletion_zero"][3], image)
    shown = shown_pixels(order, GRID, (8, 20))[3].numpy()
    assert torch.equal(found["insertion_road"][3], imputed(image, ~shown, 5))
    assert torch.equal(found["deletion_road"][3], imputed(image, shown, 5))


def test_the_blur_is_a_gaussian_of_five_pixels_of_224():
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(image.numpy(), (0, 5, 5), mode="mirror", radius=(0, 10, 10))
    np.testing.assert_allclose(blurred(image).numpy(), expected, atol=1e-5)


def test_ties_are_drawn_and_not_read_row_by_row():
    flat = np.zeros((4, 4))
    assert order_of(flat, 1).tolist() != list(range(16))
    assert order_of(flat, 1).tolist() == order_of(flat, 1).tolist() != order_of(flat, 2).tolist()


def test_areas_are_those_of_trapezoids():
    curves = np.random.default_rng(0).random((3, 4, len(SHARES)))
    expected = [[auc(SHARES, curve) for curve in own] for own in curves]
    np.testing.assert_allclose(areas(curves), expected)
    assert areas(np.ones(len(SHARES))) == pytest.approx(1)
