"""Two methods that torch-cam has as well, on the Vision Transformer that it knows: torchvision's."""

from __future__ import annotations

import pytest
import torch

import ttr
from tests.tools.tiny_models import FAMILIES, SIZE, scramble

methods = pytest.importorskip("torchcam.methods", reason="torch-cam needs Python 3.11")
CLASSES = [2, 0]


@pytest.fixture
def model():
    return scramble(FAMILIES["torchvision"]())


@pytest.fixture
def pair():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_legrad_is_that_of_torch_cam(model, pair):
    with methods.LeGrad(model, list(model.encoder.layers)) as extract:
        model(pair)
        (expected,) = extract(CLASSES, normalized=False)
    found = ttr.attribute(ttr.adapt(model), pair, method="legrad", target=CLASSES)
    assert found.std() > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradcam_is_that_of_torch_cam_ahead_of_the_last_block(model, pair):
    backbone = ttr.adapt(model)

    def as_picture(tokens: torch.Tensor) -> torch.Tensor:
        return backbone.layout.to_grid(tokens[:, 1:]).permute(0, 3, 1, 2)

    ahead = model.encoder.layers[-2]
    with methods.GradCAM(model, ahead, reshape_transform=as_picture) as extract:
        (expected,) = extract(CLASSES, model(pair), normalized=False)
    found = ttr.attribute(backbone, pair, method="gradcam", target=CLASSES)
    assert found.std() > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
