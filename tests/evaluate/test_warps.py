"""The warp and its keypoints agree: a dot is drawn, the image warped, and the dot found again by its mass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttr.errors import OptionError
from ttr.evaluate.warps import inside, warped_pair

BLACK = torch.zeros(3)


def dotted(column, row, size=(96, 128), patch=16):
    """Return a black image with a dot of 2 x 2 pixels in the middle of one patch."""
    image = torch.zeros(1, 3, *size)
    x, y = column * patch + patch // 2, row * patch + patch // 2
    image[0, :, y - 1 : y + 1, x - 1 : x + 1] = 1
    return image, (x - 0.5, y - 0.5)


def centre_of_mass(plane):
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    return (plane * x).sum() / plane.sum(), (plane * y).sum() / plane.sum()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), column=st.integers(0, 7), row=st.integers(0, 5))
def test_a_dot_is_found_where_its_keypoint_went(seed, column, row):
    image, drawn = dotted(column, row)
    pair = warped_pair(image, seeds=[seed], fill=BLACK, points=1)
    assert tuple(pair.source[0, 0]) == drawn, "the only textured patch is chosen, at its centre"
    x, y = pair.target[0, 0]
    if 2 <= x <= 125 and 2 <= y <= 93:
        assert pair.valid.all()
        # OpenCV places pixels to 1/32 px, and the dot is 2 px wide, rotated and scaled: a fifth of a pixel.
        np.testing.assert_allclose(centre_of_mass(pair.warped[0, 0].numpy()), (x, y), atol=0.2)
    elif not (-3 < x < 131 and -3 < y < 99):
        assert not pair.valid.any()
        assert pair.warped.max() == 0


def test_the_warps_are_moderate_and_reach_their_bounds():
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).expand(200, -1, -1, -1)
    pair = warped_pair(image, seeds=range(200), fill=BLACK)
    ones = np.ones((16, 1))
    turns, scales, shifts = [], [], []
    for source, target in zip(pair.source, pair.target, strict=True):
        solution, residual, *_ = np.linalg.lstsq(np.hstack([source - 31.5, ones]), target - 31.5, rcond=None)
        assert residual.max() < 1e-6, "affine"
        scales.append(np.sqrt(np.linalg.det(solution[:2])))
        np.testing.assert_allclose(solution[:2] @ solution[:2].T, scales[-1] ** 2 * np.eye(2), atol=1e-5)
        turns.append(np.degrees(np.arctan2(solution[0, 1], solution[0, 0])))
        shifts.append(solution[2])
    assert -20 <= min(turns) < -18 < 18 < max(turns) <= 20
    assert 0.85 <= min(scales) < 0.87 < 1.18 < max(scales) <= 1.2
    assert 5 <= np.abs(shifts).max() <= 6.4
    assert 0.7 < pair.valid.mean() < 1


def test_the_most_textured_patches_come_first_and_flat_ones_do_not_count():
    image = torch.full((1, 3, 64, 64), 7.0)
    strength = {(0, 0): 1.0, (2, 3): 3.0, (1, 1): 2.0}
    for (row, column), value in strength.items():
        image[0, :, 16 * row : 16 * row + 8, 16 * column : 16 * column + 16] += value
    pair = warped_pair(image, seeds=[3], fill=BLACK, points=5)
    assert pair.source[0, :3].tolist() == [[55.5, 39.5], [23.5, 23.5], [7.5, 7.5]]
    assert not pair.valid[0, 3:].any()
    coarse = warped_pair(image, seeds=[3], fill=BLACK, points=99, patch_size=(32, 32))
    assert coarse.source.shape == (1, 4, 2)
    assert coarse.source[0, 0].tolist() == [47.5, 47.5]


def test_an_image_is_warped_by_its_seed_alone_whatever_the_batch_and_the_global_generators():
    images = torch.randn(3, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    pair = warped_pair(images, seeds=[4, 5, 6], fill=torch.tensor([-9.0, 0.5, 9.0]))
    np.random.seed(1)
    for i in range(3):
        alone = warped_pair(images[i : i + 1], seeds=[4 + i], fill=torch.tensor([-9.0, 0.5, 9.0]))
        assert torch.equal(alone.warped[0], pair.warped[i])
        assert np.array_equal(alone.target[0], pair.target[i])
    assert not torch.equal(warped_pair(images, seeds=[7, 8, 9], fill=BLACK).warped, pair.warped)


def test_values_beyond_0_to_1_survive_and_the_fill_is_seen_beyond_the_image():
    images = torch.full((8, 3, 64, 64), -3.0)
    images[:, 1:] = 5
    fill = torch.tensor([-9.0, 0.5, 9.0])
    warped = warped_pair(images, seeds=range(8), fill=fill).warped
    middle = warped[:, :, 28:36, 28:36]
    assert torch.equal(middle, images[:, :, 28:36, 28:36])
    filled = (warped == fill[:, None, None]).all(dim=1)
    assert 0.01 < filled.float().mean() < 0.5
    half = warped_pair(images.half(), seeds=range(8), fill=fill).warped
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), warped, atol=1e-2, rtol=1e-3)


def test_a_flat_image_has_no_keypoints_and_bad_input_is_refused():
    assert not warped_pair(torch.full((2, 3, 32, 32), 0.3), seeds=[1, 2], fill=BLACK).valid.any()
    with pytest.raises(OptionError, match="got 2 seeds for 1 image"):
        warped_pair(torch.zeros(1, 3, 32, 32), seeds=[1, 2], fill=BLACK)
    with pytest.raises(OptionError, match="points=0"):
        warped_pair(torch.zeros(1, 3, 32, 32), seeds=[1], fill=BLACK, points=0)


def test_the_rim_of_an_image_is_half_a_pixel_beyond_its_outermost_centres():
    points = np.array([[-0.5, 0], [-0.51, 0], [7.49, 0], [7.5, 0], [0, 3.4], [0, 3.5]])
    assert inside(points, (4, 8)).tolist() == [True, False, True, False, True, False]
