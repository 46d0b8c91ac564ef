"""A map goes back to the image's own pixels by the very way that they came: against exact slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageOps
from torchvision import transforms

import ttr
from ttr.errors import ImageError, ModelError
from ttr.evaluate.placement import placement


@pytest.fixture(scope="module")
def small():
    return ttr.load("phantom", image_size=64)


def with_steps(backbone, *steps):
    ready = (transforms.ToTensor(), transforms.Normalize((0.48, 0.45, 0.4), (0.2, 0.3, 0.25)))
    return replace(backbone, preprocess_image=transforms.Compose([*steps, *ready]))


GRID = np.arange(16, dtype=np.float32).reshape(4, 4)


def test_without_a_resize_each_pixel_has_the_value_of_its_patch(small):
    found = placement(with_steps(small), (64, 64)).spread(GRID, (64, 64), -1)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.kron(GRID, np.ones((16, 16))))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("turned", [False, True])
def test_after_a_resize_by_half_and_a_crop_patches_are_twice_as_large_in_the_middle(
    interpolation, turned, small
):
    how = transforms.InterpolationMode(interpolation)
    backbone = with_steps(small, transforms.Resize(80, how), transforms.CenterCrop(64))
    size = (240, 160) if turned else (160, 240)
    expected = np.full((160, 240), -1.0)
    expected[16:144, 56:184] = np.kron(GRID.T if turned else GRID, np.ones((32, 32)))
    assert np.array_equal(
        placement(backbone, size).spread(GRID, size, -1), expected.T if turned else expected
    )


def test_of_an_input_that_is_not_smoothed_no_pixel_is_a_whole_one_off(small):
    nearest = transforms.Resize(80, transforms.InterpolationMode.NEAREST)
    found = placement(with_steps(small, nearest, transforms.CenterCrop(64)), (160, 240))
    ends = [[found.scale[axis] * end + found.offset[axis] for end in (0, 160 + 80 * axis)] for axis in (0, 1)]
    assert np.abs(np.array(ends) - [[-8, 72], [-28, 92]]).max() < 1


@pytest.mark.parametrize("size", [(97, 211), (1500, 1203), (75, 40)])
def test_any_size_is_placed_to_a_tenth_of_the_inputs_pixels(size, small):
    """Against the library's own rule: the shorter side to 80, the longer in proportion, cut in the middle."""
    backbone = with_steps(
        small, transforms.Resize(80, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(64)
    )
    found = placement(backbone, size)
    short = min(size)
    resized = [80 if side == short else int(80 * side / short) for side in size]
    for axis in (0, 1):
        corners = np.array([0.3, 0.7]) * size[axis]
        places = corners * resized[axis] / size[axis] - round((resized[axis] - 64) / 2)
        assert np.abs(found.scale[axis] * corners + found.offset[axis] - places).max() < 0.1


def test_bars_are_no_part_of_the_image_and_all_of_it_is_seen(small):
    backbone = with_steps(
        small, transforms.Lambda(lambda image: ImageOps.pad(image, (64, 64), color=(124, 116, 104)))
    )
    found = placement(backbone, (32, 64)).spread(GRID, (32, 64), -1)
    assert np.array_equal(found, np.kron(GRID[1:3], np.ones((16, 16))))


def test_stored_pixels_that_are_not_square_lie_where_the_squares_do(small):
    placed = placement(with_steps(small), (64, 64))
    assert np.array_equal(placed.spread(GRID, (32, 128), -1), np.kron(GRID, np.ones((8, 32))))


@pytest.mark.parametrize(
    "step",
    [
        transforms.Lambda(lambda image: image.rotate(90)),
        transforms.Lambda(ImageOps.mirror),
        transforms.Lambda(lambda image: image.rotate(30)),
    ],
)
def test_what_turns_an_image_is_refused(step, small):
    with pytest.raises(ModelError, match="does more than resize, crop and pad"):
        placement(with_steps(small, step), (64, 64))


def test_a_model_without_preprocessing_is_refused(small):
    with pytest.raises(ModelError, match="came without preprocessing"):
        placement(replace(small, preprocess_image=None), (64, 64))


def test_an_image_of_which_next_to_nothing_is_seen_is_that_images_fault():
    with pytest.raises(ImageError, match=r"less than three pixels of an image of 48 × 1"):
        placement(ttr.load("phantom", image_size=64), (1, 48))
