"""The phantom at half its size, for every test of comparisons: a quarter of the time for each image."""

from __future__ import annotations

import pytest
import torch

import ttr
from ttr.datasets.registry import phantom_images


@pytest.fixture(scope="package")
def phantom() -> ttr.Backbone:
    """With its planted neurons, at any size the same."""
    return ttr.load("phantom", image_size=112)


@pytest.fixture(scope="package")
def phantom_batch(phantom: ttr.Backbone) -> torch.Tensor:
    """Four images as it sees them."""
    return torch.stack([phantom.preprocess(each.image) for each in phantom_images(4)])
