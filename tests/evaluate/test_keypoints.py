"""Keypoints follow their image: against the formula of a resize and crop, and against a dot that is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import transforms

import ttr
from ttr.errors import ModelError
from ttr.evaluate.keypoints import placement, points_as_seen

INTERPOLATION = transforms.InterpolationMode


def preprocessed(backbone, *steps):
    tensor = (transforms.ToTensor(), transforms.Normalize((0.48, 0.45, 0.4), (0.2, 0.3, 0.25)))
    return replace(backbone, preprocess_image=transforms.Compose([*steps, *tensor]))


@pytest.mark.parametrize("size", [(224, 224), (225, 300), (375, 500), (1000, 700), (90, 120)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_resize_and_crop_follows_its_formula(phantom, size, interpolation):
    """A pixel's centre stays in the middle of its pixel: x' = (x + 1/2) new / old - 1/2 - left."""
    resize = transforms.Resize(160, INTERPOLATION(interpolation))
    backbone = preprocessed(phantom, resize, transforms.CenterCrop(144))
    height, width = (160, int(160 * size[1] / size[0])) if size[0] <= size[1] else (0, 160)
    height = height or int(160 * size[0] / size[1])
    left, top = round((width - 144) / 2), round((height - 144) / 2)
    points = np.random.default_rng(0).uniform(0, size[::-1], (50, 2))
    scale = np.array([width / size[1], height / size[0]])
    expected = (points + 0.5) * scale - 0.5 - [left, top]
    np.testing.assert_allclose(points_as_seen(backbone, size, points), expected, atol=0.2)


@pytest.mark.parametrize("name", ["phantom", "squash", "pad", "mirror"])
def test_a_dot_is_found_where_its_point_went(phantom, name):
    steps = {
        "squash": [transforms.Resize((96, 160))],
        "pad": [transforms.Lambda(lambda image: ImageOps.pad(image, (200, 200), color=(90, 90, 90)))],
        "mirror": [transforms.Lambda(ImageOps.mirror), transforms.Resize(200)],
    }
    backbone = preprocessed(phantom, *steps[name]) if name in steps else phantom
    size = (300, 420)
    for centre in ((210, 150), (120, 80), (290, 240)):
        pixels = np.zeros((*size, 3), dtype=np.uint8)
        empty = backbone.preprocess(Image.fromarray(pixels)).mean(dim=0).numpy()
        x, y = centre
        pixels[y - 6 : y + 7, x - 6 : x + 7] = 255
        shown = backbone.preprocess(Image.fromarray(pixels)).mean(dim=0).numpy() - empty
        rows, columns = np.mgrid[: shown.shape[0], : shown.shape[1]]
        found = np.array([(shown * columns).sum(), (shown * rows).sum()]) / shown.sum()
        np.testing.assert_allclose(points_as_seen(backbone, size, np.array(centre)), found, atol=0.2)


def test_what_the_crop_cuts_off_lies_outside_and_shapes_are_kept(phantom):
    corners = np.array([[[0, 0], [499, 374]], [[250, 187], [60, 187]]])
    seen = points_as_seen(phantom, (375, 500), corners)
    assert seen.shape == corners.shape
    assert seen[0, 0, 0] < -30
    assert seen[0, 1, 0] > 254
    assert np.abs(seen[1, 0] - 112).max() < 0.7
    assert np.array_equal(placement(phantom, (375, 500)), placement(phantom, (375, 500)))


def test_a_preprocessing_that_bends_the_image_or_shows_none_of_it_is_refused(phantom):
    def bend(image):
        pixels = np.asarray(image.resize((224, 224)))
        x = (224 * np.linspace(0, 0.999, 224) ** 3).astype(int)
        return Image.fromarray(pixels[:, x])

    for function in (bend, lambda image: image.resize((1, 200)).resize((224, 224))):
        backbone = preprocessed(phantom, transforms.Lambda(function))
        with pytest.raises(ModelError, match="is no resize and crop of an image of 300x420 px"):
            placement(backbone, (300, 420))
    with pytest.raises(ModelError, match="came without preprocessing"):
        placement(replace(phantom, preprocess_image=None), (300, 420))


def test_a_published_preprocessing_follows_its_own_recipe():
    """timm's own transform of a full-size model: a resize by its crop share, then the middle."""
    backbone = ttr.load("timm:vit_tiny_patch16_224", pretrained=False)
    points = np.array([[210.0, 150.0], [100.0, 60.0]])
    config = backbone.model.pretrained_cfg
    short = int(224 / config["crop_pct"])
    long = int(short * 420 / 300)
    expected = (points + 0.5) * [long / 420, short / 300] - 0.5
    expected -= [round((long - 224) / 2), round((short - 224) / 2)]
    np.testing.assert_allclose(points_as_seen(backbone, (300, 420), points), expected, atol=0.2)
