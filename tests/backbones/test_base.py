"""Images come in the type and to the place in which the model takes them, whatever its other parts are."""

from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, convert_weights_to_lp

import ttr
from tests.backbones.test_contract import neurons_of
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.forward.record import record
from ttr.studies.provenance import provenance

HALVES = [torch.float16, torch.bfloat16]


def half_clip(dtype):
    """As open_clip's ``precision="fp16"`` or ``"bf16"``: norms and embeddings stay float32."""
    vision = CLIPVisionCfg(image_size=SIZE, layers=3, width=24, head_width=12, patch_size=8)
    text = CLIPTextCfg(context_length=8, vocab_size=100, width=16, heads=2, layers=1)
    model = scramble(CLIP(16, vision, text, cast_dtype=dtype))
    convert_weights_to_lp(model, dtype)
    return model


@pytest.mark.parametrize("dtype", HALVES)
def test_a_clip_model_that_is_half_in_part_works_as_its_own_way_does(dtype, images):
    model = half_clip(dtype)
    first = next(model.visual.parameters())
    backbone = ttr.adapt(model)
    assert (first.dtype, backbone.dtype) == (torch.float32, dtype)
    embedded = backbone.embed(images)
    with torch.no_grad():
        assert torch.equal(embedded, model.encode_image(images.to(dtype)))
    assert backbone.tokens(images).cls.dtype == embedded.dtype == dtype
    passed = record(backbone, images, attention=True)
    assert passed.norms.dtype == passed.cls_attention.dtype == torch.float32
    found = ttr.detect(backbone, images, threshold=0.5)
    assert found.provenance.dtype == str(dtype).removeprefix("torch.")
    compared = list(ttr.compare(backbone, neurons_of(backbone), images))
    assert len(compared) == len(images)
    assert provenance(backbone)["backbone"]["dtype"] == str(dtype).removeprefix("torch.")
    assert next(model.visual.parameters()).dtype == torch.float32


def test_under_autocast_a_model_takes_images_in_its_own_type(images):
    for model in (scramble(tiny_vit()), half_clip(torch.bfloat16)):
        backbone = ttr.adapt(model)
        own = backbone.dtype
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            assert backbone.prepare(images).dtype == own
            tower = model.encode_image if hasattr(model, "encode_image") else model
            assert torch.equal(backbone.embed(images), tower(images.to(own)))
            assert len(list(ttr.compare(backbone, neurons_of(backbone), images[:2]))) == 2


def test_the_first_module_that_takes_images_decides_and_not_the_first_parameter(images):
    vit = scramble(tiny_vit())
    vit.cls_token.data = vit.cls_token.data.double()
    backbone = ttr.adapt(vit)
    assert next(vit.parameters()).dtype == torch.float64
    assert (backbone.stem, backbone.dtype) == (vit.patch_embed.proj, torch.float32)
    assert backbone.prepare(images).dtype == torch.float32
