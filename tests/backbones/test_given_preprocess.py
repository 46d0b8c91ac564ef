"""``adapt(model, preprocess=...)``: an image processor is used as it is, a wrong function is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import ttr
from tests.tools.tiny_models import SIZE, scramble, tiny_transformers, tiny_vit
from ttr.errors import ModelError

PICTURE = Image.effect_noise((90, 60), 60).convert("RGB")


def sized(height, width, **options):
    return transformers.ViTImageProcessor(size={"height": height, "width": width}, **options)


def cropped(side):
    crop = {"height": side, "width": side}
    return transformers.BitImageProcessor(size={"shortest_edge": side + 4}, crop_size=crop)


@pytest.mark.parametrize("kind", ["Dinov2Model", "ViTModel", "SiglipVisionModel"])
def test_an_image_processor_preprocesses_and_sets_the_image_size(kind):
    model = scramble(tiny_transformers(kind))
    for processor, size in ((cropped(SIZE), (32, 32)), (sized(48, 48), (48, 48))):
        backbone = ttr.adapt(model, preprocess=processor)
        assert (backbone.image_size, backbone.layout.grid) == (size, (size[0] // 8, size[1] // 8))
        expected = processor(PICTURE, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(backbone.preprocess(PICTURE), expected)
        assert backbone.tokens(expected[None]).patches.shape[1] == backbone.layout.patches
        assert ttr.detect(backbone, [PICTURE, PICTURE]).provenance.image_size == size


def test_a_processor_that_holds_one_is_taken_for_it():
    class Processor:
        image_processor = cropped(SIZE)
        model_input_names = ("pixel_values", "input_ids")

        def __call__(self, images=None, text=None):
            raise AssertionError("text is needed")

    backbone = ttr.adapt(tiny_vit().eval(), preprocess=Processor())
    assert backbone.preprocess(PICTURE).shape == (3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("model", "processor", "complaint"),
    [
        (tiny_vit, sized(48, 48), "makes 48x48 px, but VisionTransformer takes 32x32 px; give the processor"),
        (
            lambda: tiny_transformers("Dinov2Model"),
            sized(36, 32),
            "makes 36x32 px, but transformers Dinov2Model takes multiples of 8x8 px",
        ),
        (
            lambda: tiny_transformers("Dinov2Model"),
            transformers.BitImageProcessor(size={"shortest_edge": 32}, do_center_crop=False),
            "BitImageProcessor makes no image of a fixed size",
        ),
    ],
)
def test_a_processor_of_another_size_is_refused(model, processor, complaint):
    with pytest.raises(ModelError, match=complaint):
        ttr.adapt(model().eval(), preprocess=processor)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (np.zeros((3, SIZE, SIZE), np.float32), r"makes a ndarray of shape \(3, 32, 32\)"),
        (torch.zeros(1, 3, SIZE, SIZE), r"makes a tensor of shape \[1, 3, 32, 32\]"),
        (torch.zeros(SIZE, SIZE, 3), r"makes a tensor of shape \[32, 32, 3\]"),
        (torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), "makes a tensor of type torch.uint8"),
        (torch.full((3, SIZE, SIZE), 255.0), "makes a tensor with values up to 255"),
        (torch.full((3, SIZE, SIZE), torch.nan), "makes a tensor with NaN or infinite values"),
        ({"pixel_values": torch.zeros(1, 3, SIZE, SIZE)}, "makes a dict of an image"),
        (PICTURE, "makes a Image of an image"),
        (None, "makes a NoneType of an image"),
    ],
)
def test_a_function_that_makes_something_else_is_refused_by_it(made, complaint):
    backbone = ttr.adapt(tiny_vit().eval(), preprocess=lambda image: made)
    neurons = ttr.RegisterNeurons.from_pairs([])
    for use in (backbone.preprocess, lambda x: ttr.detect(backbone, [x, x])):
        with pytest.raises(ModelError, match=complaint + ".*mend the function that was given as preprocess="):
            use(PICTURE)
    with pytest.raises(ModelError, match=complaint):
        next(ttr.compare(backbone, neurons, PICTURE))


def test_a_function_that_makes_another_size_is_refused_by_it():
    backbone = ttr.adapt(tiny_vit().eval(), preprocess=lambda image: torch.zeros(3, 48, 48))
    with pytest.raises(
        ModelError, match="got images of 48x48 px, but .* takes 32x32 px; use a preprocessing"
    ):
        ttr.detect(backbone, [PICTURE])
