"""A mask follows its image through any preprocessing: against exact slices, and against the image itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import transforms

import ttr
from tests.tools.tiny_models import scramble, tiny_vit
from ttr.datasets.phantom import CLASSES as PHANTOM_CLASSES
from ttr.datasets.phantom_set import phantom_set
from ttr.errors import ModelError
from ttr.evaluate.masks import mask_as_seen, outline_as_seen


def blocks(rows, columns, size, values, seed=0):
    """Return a mask of square blocks of random classes."""
    drawn = np.random.default_rng(seed).choice(values, (rows, columns))
    return np.kron(drawn, np.ones((size, size), dtype=np.int64))


def with_preprocess(backbone, transform):
    return replace(backbone, preprocess_image=transform)


def normalised(*steps):
    return transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize((0.48, 0.45, 0.4), (0.2, 0.3, 0.25))]
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_after_a_resize_by_half_and_a_crop_it_is_every_second_pixel_of_the_middle(phantom, interpolation):
    mask = blocks(14, 20, 32, [0, 1, 5, 20, 254, 255])
    backbone = with_preprocess(
        phantom,
        normalised(
            transforms.Resize(224, transforms.InterpolationMode(interpolation)), transforms.CenterCrop(192)
        ),
    )
    half = mask[::2, ::2]
    seen = mask_as_seen(backbone, mask)
    assert seen.dtype == np.int64
    # At a corner where three classes meet, the shares of an antialiased pixel may be a tie.
    assert (seen == half[16:208, 64:256]).mean() > 0.999
    assert set(np.unique(seen)) == set(np.unique(mask))


def test_it_covers_what_the_image_shows(phantom):
    """The phantom's disc is bright in the model's input exactly where its mask says so."""
    dataset = phantom_set()
    small = ttr.load("phantom", image_size=160)
    for item in dataset.select("test")[:6]:
        truth = dataset.masks.open(item)
        assert np.array_equal(mask_as_seen(phantom, truth), truth), "nothing is resized at 224 px"
        seen, shown = mask_as_seen(small, truth), small.preprocess(dataset.open(item)).mean(dim=0).numpy()
        label = 1 + PHANTOM_CLASSES.index(item.label)
        bright = shown > -0.8
        assert seen.shape == (160, 160)
        assert set(np.unique(seen)) == {0, label}
        assert (bright == (seen == label)).mean() > 0.98


@pytest.mark.parametrize("padding", [0, 128, 255])
def test_what_a_preprocessing_pads_does_not_count(phantom, padding):
    def pad(image):
        return ImageOps.pad(image, (96, 96), method=Image.Resampling.NEAREST, color=(padding,) * 3)

    backbone = with_preprocess(phantom, normalised(transforms.Lambda(pad)))
    mask = blocks(3, 6, 16, [0, 1, 2])
    expected = np.full((96, 96), 255)
    expected[24:72] = mask
    assert np.array_equal(mask_as_seen(backbone, mask), expected)
    one = np.full((48, 96), 3)
    expected[24:72] = one
    assert np.array_equal(mask_as_seen(backbone, one), expected)


def test_padding_is_outside_an_outline_and_what_is_unknown_stays_so(phantom):
    def pad(image):
        return ImageOps.pad(image, (96, 96), method=Image.Resampling.NEAREST, color=(128,) * 3)

    backbone = with_preprocess(phantom, normalised(transforms.Lambda(pad)))
    for values in ([0, 1, 255], [1]):
        outline = blocks(3, 6, 16, values)
        expected = np.zeros((96, 96))
        expected[24:72] = outline
        assert np.array_equal(outline_as_seen(backbone, outline.astype(np.uint8)), expected)


def test_a_mask_of_one_class_is_that_class_and_a_model_without_preprocessing_is_refused(phantom):
    assert (mask_as_seen(phantom, np.full((50, 70), 9)) == 9).all()
    assert (mask_as_seen(phantom, np.full((50, 70), 255)) == 255).all()
    bare = ttr.adapt(scramble(tiny_vit()))
    bare = replace(bare, preprocess_image=None)
    with pytest.raises(ModelError, match="came without preprocessing"):
        mask_as_seen(bare, np.zeros((8, 8), dtype=np.int64))


def test_every_family_preprocesses_masks_as_it_does_images(model):
    """A white square on black, as an image and as a mask, ends in the same place."""
    backbone = ttr.adapt(model)
    if backbone.preprocess_image is None:
        backbone = with_preprocess(backbone, normalised(transforms.Resize((32, 32))))
    square = np.zeros((90, 120), dtype=np.int64)
    square[30:60, 30:90] = 1
    pixels = np.repeat(255 * square[..., None], 3, axis=2).astype(np.uint8)
    shown = backbone.preprocess(Image.fromarray(pixels))
    middle = (shown.amax(dim=(1, 2)) + shown.amin(dim=(1, 2))) / 2
    expected = (shown > middle[:, None, None]).float().mean(dim=0) > 0.5
    assert torch.equal(torch.from_numpy(mask_as_seen(backbone, square)) == 1, expected)
