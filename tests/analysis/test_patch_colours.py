"""Colours against scikit-learn's own projection, and what a shared basis promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from ttr.analysis.patch_colours import fit_colours
from ttr.errors import OptionError


def patches(count: int = 60, width: int = 8, seed: int = 0) -> np.ndarray:
    scales = 2.0 ** -np.arange(width)
    return (np.random.default_rng(seed).standard_normal((count, width)) * scales).astype(np.float32)


def test_the_basis_is_the_one_of_scikit_learn():
    x = patches()
    fitted, expected = fit_colours(x), PCA(3, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(np.abs(fitted.components), np.abs(expected.components_), atol=1e-9)
    np.testing.assert_allclose(fitted.explained, expected.explained_variance_ratio_, rtol=1e-9)


def test_the_picture_is_the_eigenvectors_projection_in_the_robust_range():
    x = patches()
    colours = fit_colours(x)
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    directions = vectors[:, :-4:-1].T
    directions *= np.sign(directions[range(3), np.abs(directions).argmax(axis=1)])[:, None]
    np.testing.assert_allclose(colours.components, directions, atol=1e-9)
    np.testing.assert_allclose(colours.explained, values[:-4:-1] / values.sum(), rtol=1e-9)
    projected = centred @ directions.T
    low, high = np.percentile(projected, [2, 98], axis=0)
    expected = np.rint(255 * ((projected - low) / (high - low)).clip(0, 1)).reshape(6, 10, 3)
    picture = colours.paint(x, (6, 10))
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture.astype(int), expected, atol=1)
    assert picture.reshape(-1, 3).min(axis=0).tolist() == [0, 0, 0]
    assert picture.reshape(-1, 3).max(axis=0).tolist() == [255, 255, 255]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_the_sign_is_fixed_and_the_order_and_scale_of_the_patches_do_not_matter(seed, scale):
    x = patches(seed=seed).astype(np.float64)
    picture = fit_colours(x).paint(x, (6, 10))
    shuffled = np.random.default_rng(seed).permutation(x)
    for same in (fit_colours(shuffled).paint(x, (6, 10)), fit_colours(x * scale).paint(x * scale, (6, 10))):
        np.testing.assert_allclose(same.astype(int), picture, atol=1)


def test_one_basis_gives_the_same_feature_the_same_colour_in_every_picture():
    first, second = patches(seed=1), patches(seed=2)
    second[7] = first[3]
    colours = fit_colours(np.concatenate([first, second]))
    one, other = (colours.paint(x, (6, 10)).reshape(-1, 3) for x in (first, second))
    assert one[3].tolist() == other[7].tolist()


def test_a_few_outliers_do_not_leave_the_rest_grey():
    x = patches(600)
    spread = fit_colours(x).paint(x, (20, 30))[..., 0].std()
    x[:6, 0] += 50
    with_outliers = fit_colours(x).paint(x, (20, 30))[..., 0]
    assert with_outliers.std() > 0.8 * spread


def test_a_rotation_turns_the_basis_with_the_patches():
    """Up to the sign convention, which looks at the entries: each channel is the same or its negative."""
    x = patches().astype(np.float64)
    rotation = ortho_group.rvs(8, random_state=0)
    one, other = (
        fit_colours(each).paint(each, (6, 10)).reshape(-1, 3).astype(int) for each in (x, x @ rotation)
    )
    for channel in range(3):
        a, b = one[:, channel], other[:, channel]
        assert min(np.abs(a - b).max(), np.abs(a - (255 - b)).max()) <= 1


def test_flat_patches_are_mid_grey():
    flat = np.ones((6, 4), np.float32)
    assert (fit_colours(flat).paint(flat, (2, 3)) == 128).all()


def test_bad_patches_are_refused():
    with pytest.raises(OptionError, match=r"shape \(2, 8\); needed \[M, D\], both at least 3"):
        fit_colours(patches(2))
    with pytest.raises(OptionError, match="all finite"):
        fit_colours(np.full((5, 5), np.nan))
    with pytest.raises(OptionError, match=r"shape \(60, 8\); needed \(50, 8\) for a grid \(5, 10\)"):
        fit_colours(patches()).paint(patches(), (5, 10))
