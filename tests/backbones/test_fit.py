"""Whole images: masks, keypoints and matches follow padding and stretching, by hand-computed coordinates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision import transforms

import ttr
from ttr.backbones.fit import with_fit
from ttr.datasets.registry import IGNORE
from ttr.errors import ModelError, OptionError
from ttr.evaluate.correspondence import matches
from ttr.evaluate.keypoints import points_as_seen
from ttr.evaluate.masks import mask_as_seen
from ttr.studies.ablate.annotated_pairs import AnnotatedPairs

SIDE = 64


@pytest.fixture(scope="module")
def backbone():
    """A model of 64 px that sees the middle square of an image."""
    steps = [transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.5,) * 3, (0.5,) * 3))
    return replace(ttr.load("phantom", image_size=SIDE), preprocess_image=transforms.Compose(steps))


# An image of 128 x 256 (high x wide) in a square of 64: padded by 64 above and below and halved twice, or
# squeezed by 2 down and 4 across. A pixel's centre is at its index: x' = (x + 1/2 + bar) / factor - 1/2.
CORNERS = np.array([[0, 0], [255, 127], [100, 30]])


@pytest.mark.parametrize(
    ("fit", "factor", "bars"),
    [("pad", (4, 4), (0, 64)), ("resize", (4, 2), (0, 0)), ("crop", (2, 2), (-64, 0))],
)
def test_keypoints_follow(backbone, fit, factor, bars):
    expected = (CORNERS + 0.5 + np.array(bars)) / np.array(factor) - 0.5
    found = points_as_seen(with_fit(backbone, fit), (128, 256), CORNERS)
    np.testing.assert_allclose(found, expected, atol=0.35)


def test_a_mask_is_whole_and_bars_do_not_count(backbone):
    mask = np.zeros((128, 256), dtype=np.int64)
    mask[:, 192:] = 1  # the right quarter, half of which the crop cuts off
    padded = np.full((SIDE, SIDE), IGNORE)
    padded[16:48] = 0
    padded[16:48, 48:] = 1
    stretched = np.zeros((SIDE, SIDE), dtype=np.int64)
    stretched[:, 48:] = 1
    for fit, expected in (("pad", padded), ("resize", stretched)):
        seen = mask_as_seen(with_fit(backbone, fit), mask)
        assert (seen == expected).mean() > 0.96, fit
    assert (mask_as_seen(with_fit(backbone, "pad"), mask)[:15] == IGNORE).all()
    assert not (mask_as_seen(backbone, mask) == 1).any(), "the crop alone loses the class"


def test_patches_of_the_bars_are_no_candidates(backbone):
    rows, columns = backbone.layout.grid
    shown = AnnotatedPairs(with_fit(backbone, "pad"))._shown((128, 256)).reshape(rows, columns)
    side = backbone.patch_size[0]
    inside = [(row + 1) * side > 16 and row * side < 48 for row in range(rows)]
    assert shown.all(axis=1).tolist() == shown.any(axis=1).tolist() == inside
    for fit in ("crop", "resize"):
        assert AnnotatedPairs(with_fit(backbone, fit))._shown((128, 256)).all()


def test_a_match_is_among_the_candidates():
    source = torch.tensor([[[1.0, 0.0], [0, 1]]])
    target = torch.tensor([[[1.0, 0.0], [0.9, 0.1]]])  # the first is nearest, and a bar
    points = np.array([[[2.0, 2]]]), np.array([[[6.0, 2]]]), np.array([[True]])
    where = {"grid": (1, 2), "image_size": (4, 8)}
    assert matches(source, target, *points, **where)[1] == 0
    assert matches(source, target, *points, **where, candidates=np.array([[False, True]]))[1] == 1


def test_an_unknown_fit_and_a_model_without_preprocessing_are_refused(backbone):
    assert with_fit(backbone, "crop") is backbone
    with pytest.raises(OptionError, match="fit squeeze; needed one or more of crop, pad, resize"):
        with_fit(backbone, "squeeze")
    with pytest.raises(ModelError, match="came without preprocessing"):
        with_fit(replace(backbone, preprocess_image=None), "pad")
