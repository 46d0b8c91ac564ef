"""Attention of timm that adds a bias to pairs of positions: it can be looked into, but not inserted into."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch

import ttr
from tests.backbones.test_contract import TOLERANCE, neurons_of
from tests.tools.tiny_models import scramble, tiny_beit, tiny_naflex, tiny_relpos
from ttr.errors import ModelError
from ttr.forward.attention import attention_rows
from ttr.hooks import capture

BIASED = {
    "beit": partial(tiny_beit, use_abs_pos_emb=False, use_rel_pos_bias=True),
    "beit-shared": partial(tiny_beit, use_shared_rel_pos_bias=True),
    "relpos": tiny_relpos,
    "relpos-shared": partial(tiny_relpos, class_token=True, rel_pos_type="bias", shared_rel_pos=True),
}


@pytest.fixture(params=sorted(BIASED))
def model(request):
    return scramble(BIASED[request.param]())


def test_recomputed_attention_holds_the_bias_of_positions(model, images):
    """The reference: what the module that is not fused multiplies its values with."""
    backbone = ttr.adapt(model)
    recomputed, reference = [], []

    def watch(index, x, kwargs):
        module = backbone.sites.attention[index].module
        recomputed.append(attention_rows(backbone, module, x, kwargs, slice(None)))

    for site in backbone.sites.attention:
        site.module.fused_attn = False
        site.module.attn_drop.register_forward_hook(lambda m, args, out: reference.append(args[0]))
    with capture(backbone.sites.attention, watch):
        backbone.embed(images)
    for ours, theirs in zip(recomputed, reference, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_no_register_is_inserted_among_biased_positions(model, images):
    backbone = ttr.adapt(model)
    neurons = neurons_of(backbone)
    bare = backbone.embed(images)
    with pytest.raises(ModelError, match=r"a learned bias to each pair of its 1[67] positions.*=0 silences"):
        ttr.TestTimeRegisters(backbone, neurons)
    assert torch.equal(backbone.embed(images), bare)
    with ttr.TestTimeRegisters(backbone, neurons, num_registers=0):
        assert not torch.allclose(backbone.embed(images), bare, atol=1e-4)
    assert ttr.detect(backbone, images).provenance.images == 5


def test_beits_attention_takes_no_extra_key(images):
    backbone = ttr.adapt(scramble(tiny_beit()))
    with pytest.raises(ModelError, match="attention Attention takes no attention bias"):
        ttr.calibrate_bias(backbone, neurons_of(backbone), images)


def test_a_patch_of_a_hybrid_is_measured_in_the_images_pixels():
    backbone = ttr.adapt(timm.create_model("vit_tiny_r_s16_p8_224", depth=1))
    assert (backbone.image_size, backbone.patch_size, backbone.layout.grid) == ((224, 224), (32, 32), (7, 7))


def test_naflex_takes_images_of_any_whole_number_of_patches(images):
    backbone = ttr.adapt(scramble(tiny_naflex()))
    assert backbone.tokens(torch.zeros(1, 3, 48, 32)).grid == (6, 4)
    with pytest.raises(ModelError, match="takes multiples of its 8x8 px patches"):
        backbone.embed(torch.zeros(1, 3, 36, 32))


def test_naflex_turns_no_register():
    """Its rotary embedding skips as many tokens as the wrap says: blank registers equal trained zeros."""
    options = {"pos_embed": "none", "rope_type": "dinov3", "rope_rotate_half": True, "attn_type": "rope"}
    model = scramble(tiny_naflex(**options, reg_tokens=1))
    larger = tiny_naflex(**options, reg_tokens=3).eval()
    state = dict(model.state_dict())
    state["embeds.reg_token"] = torch.cat([state["embeds.reg_token"], torch.zeros(1, 2, 24)], dim=1)
    larger.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = larger.forward_features(images)[:, [0, 1, *range(4, 20)]]
        with ttr.TestTimeRegisters(model, ttr.RegisterNeurons.from_pairs([]), num_registers=2):
            torch.testing.assert_close(model.forward_features(images), expected, **TOLERANCE)
        assert not torch.allclose(model.forward_features(images), expected, atol=1e-3)
