"""What CLS is made of: exact on every family, at every block, wrapped or not."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from timm.models.eva import EvaBlockPostNorm
from torch import nn

import ttr
from tests.backbones.test_contract import hook_count, neurons_of
from tests.tools.tiny_models import DEPTH, FAMILIES, WIDTH, scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.analysis.integration import PARTS, full_output, restricted, split
from ttr.errors import ModelError, OptionError
from ttr.forward.blocks import watch
from ttr.forward.record import record
from ttr.hooks import Site, capture
from ttr.registers.attention_bias import AttentionBias, calibrate_bias


def gated(model):
    for block in model.blocks:
        block.attn.gate = nn.Linear(WIDTH, WIDTH)
    return model


#: Without CLS, or of the very blocks that another family has.
LEFT_OUT = {"transformers-siglip", "transformers-ijepa", "transformers-dinov2-backbone", "timm-naflex"}
#: With CLS, and besides: a norm and a gate between the heads and the projection, mixed rotary embeddings.
WITH_CLS = {
    **{name: FAMILIES[name] for name in FAMILIES.keys() - LEFT_OUT},
    "eva-inner-norm": partial(tiny_eva, scale_attn_inner=True, qkv_fused=False, swiglu_mlp=True),
    "eva-grouped": partial(tiny_eva, attn_type="rope", qkv_fused=False, num_kv_heads=1),
    "eva-rope-mixed": partial(tiny_eva, rope_type="mixed"),
    "timm-gated": lambda: gated(tiny_vit(reg_tokens=1)),
    "open-clip-layer-scale": partial(tiny_clip, ls_init_value=0.4),
}


@pytest.fixture(params=sorted(WITH_CLS))
def backbone(request):
    return ttr.adapt(scramble(WITH_CLS[request.param]()))


def wraps(backbone):
    """Nothing; registers with the neurons of all blocks, the last one included; a blank token."""
    everywhere = ttr.RegisterNeurons.from_pairs([(block, 3 + block) for block in range(DEPTH)])
    yield nullcontext()
    yield ttr.TestTimeRegisters(backbone, everywhere, num_registers=2)
    yield ttr.TestTimeRegisters(backbone, ttr.RegisterNeurons.from_pairs([]), num_registers=1)


def test_the_parts_sum_to_what_the_block_really_adds(backbone, images):
    """Reference: the module's own attention output, the layer scale undone by the block's own arithmetic."""
    for wrap in wraps(backbone):
        with wrap:
            with watch(backbone, 0) as seen:
                layout = record(backbone, images).layout
            splits = [split(backbone, layout, block, seen[block]) for block in range(DEPTH)]
        for block, found in enumerate(splits):
            attended = seen[block].attended[:, 0]
            scale = backbone.mixing.scale(backbone.sites.blocks[block].module)
            expected = seen[block].tokens[:, 0] + (attended if scale is None else attended * scale)
            torch.testing.assert_close(found.total(), expected, rtol=1e-5, atol=1e-5)
            alone = expected - seen[block].tokens[:, 0]
            torch.testing.assert_close(found.attended(), alone, rtol=1e-4, atol=1e-5)
            without = alone - sum(found.contributions[part] for part in ("registers", "cls"))
            torch.testing.assert_close(found.attended("patches"), without, rtol=1e-4, atol=1e-5)
            shares = torch.stack(list(found.shares.values()))
            torch.testing.assert_close(shares.sum(dim=0), torch.ones(5), rtol=0, atol=1e-5)
            assert (found.shares["registers"] > 0).all() == (layout.registers + layout.test_time > 0)


def test_the_scale_is_the_blocks_own(backbone, images):
    """What enters the second norm is the sum: the MLP's input is its norm, so the norm tells them apart."""
    kept = {}

    def keep(index, x, kwargs):
        kept[index] = x[:, 0]

    with watch(backbone, 0) as seen, capture(backbone.sites.mlps, keep):
        layout = record(backbone, images).layout
    for block in range(DEPTH):
        module = backbone.sites.blocks[block].module
        norm = next(
            getattr(module, n)
            for n in ("norm2", "ln_2", "layer_norm2", "layernorm_after")
            if hasattr(module, n)
        )
        total = split(backbone, layout, block, seen[block]).total()
        torch.testing.assert_close(norm(total), kept[block], rtol=1e-4, atol=1e-4)


def test_nothing_left_out_is_the_models_own_output(backbone, images):
    for wrap in wraps(backbone):
        hooks = hook_count(backbone.model)
        with wrap:
            with watch(backbone, 0) as seen:
                layout = record(backbone, images).layout
            expected = full_output(backbone, layout, seen)
            own = backbone.given_out(backbone.tokens(images).cls)
            torch.testing.assert_close(expected, own, rtol=1e-5, atol=1e-5)
            for block in range(DEPTH):
                found = restricted(backbone, layout, block, seen, parts=["full"], keep_skip=True)
                torch.testing.assert_close(found["full"], expected, rtol=1e-4, atol=1e-4)
        assert hook_count(backbone.model) == hooks


def test_a_batch_equals_its_items(backbone, images):
    def run(batch):
        with ttr.TestTimeRegisters(backbone, neurons_of(backbone)):
            with watch(backbone, 1) as seen:
                layout = record(backbone, batch).layout
            return restricted(backbone, layout, 1, seen)

    together, alone = run(images), [run(image[None]) for image in images]
    assert set(together) == set(PARTS)
    for part, expected in together.items():
        torch.testing.assert_close(torch.cat([one[part] for one in alone]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("keep_skip", [False, True])
def test_restricted_outputs_against_plain_arithmetic(images, renormalise, keep_skip):
    """A timm ViT by hand: one head's weights at a time, the second half of the block written out."""
    model = scramble(tiny_vit(reg_tokens=2, init_values=0.5))
    backbone = ttr.adapt(model)
    with watch(backbone, DEPTH - 1) as seen:
        layout = record(backbone, images).layout
    with torch.no_grad():
        options = {"renormalise": renormalise, "keep_skip": keep_skip}
        found = restricted(backbone, layout, DEPTH - 1, seen, **options)
        block, x = model.blocks[-1], seen[DEPTH - 1].tokens
        y = block.norm1(x)
        q, k, v = block.attn.qkv(y).reshape(5, -1, 3, 2, 12).permute(2, 0, 3, 1, 4)
        weights = (q[:, :, :1] @ k.transpose(2, 3) * 12**-0.5).softmax(dim=-1)
        tokens = {"cls": [0], "registers": [1, 2], "patches": list(range(3, 19)), "skip": []}
        for part, members in tokens.items():
            kept = torch.zeros_like(weights)
            kept[..., members] = weights[..., members]
            if renormalise and members:
                kept = kept / kept.sum(dim=-1, keepdim=True)
            given = block.attn.proj((kept @ v).transpose(1, 2).reshape(5, 24)) * block.ls1.gamma
            stream = given + x[:, 0] * (keep_skip or part == "skip")
            stream = stream + block.mlp(block.norm2(stream)) * block.ls2.gamma
            torch.testing.assert_close(found[part], model.norm(stream), rtol=1e-4, atol=1e-5)


def test_an_earlier_block_against_a_model_that_is_run_with_that_cls(images):
    """Reference: the bare model, its CLS row replaced behind the block by a hook of this test."""
    model = scramble(tiny_eva(num_reg_tokens=1))
    backbone = ttr.adapt(model)
    with watch(backbone, 0) as seen:
        layout = record(backbone, images).layout
    found = restricted(backbone, layout, 0, seen, parts=["skip"])["skip"]
    block = model.blocks[0]
    with torch.no_grad():
        cls = seen[0].tokens[:, 0] + block.attn.proj.bias
        cls = cls + block.mlp(block.norm2(cls))
        handle = block.register_forward_hook(lambda m, a, out: torch.cat([cls[:, None], out[:, 1:]], dim=1))
        expected = model.forward_features(images)[:, 0]
        handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_registers_there_is_no_register_output(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    with watch(backbone, DEPTH - 1) as seen:
        layout = record(backbone, images).layout
    assert set(restricted(backbone, layout, DEPTH - 1, seen)) == {"patches", "cls", "skip"}
    assert not split(backbone, layout, DEPTH - 1, seen[DEPTH - 1]).contributions["registers"].any()


def test_known_weights_are_taken(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    with watch(backbone, DEPTH - 1) as seen:
        passed = record(backbone, images, attention=True)
    computed = restricted(backbone, passed.layout, DEPTH - 1, seen, parts=["patches"])
    weights = passed.cls_attention[-1]
    taken = restricted(backbone, passed.layout, DEPTH - 1, seen, parts=["patches"], weights=weights)
    assert torch.equal(computed["patches"], taken["patches"])


def test_half_precision_stays_near(images):
    backbone = ttr.adapt(scramble(tiny_vit(reg_tokens=1)))
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone.model.to(dtype)
        with watch(backbone, DEPTH - 1) as seen:
            layout = record(backbone, images).layout
        runs.append(restricted(backbone, layout, DEPTH - 1, seen)["patches"])
        assert runs[-1].dtype == torch.float32
    assert F.cosine_similarity(*runs).min() > 0.99


def test_what_cannot_be_split_is_refused(images):
    backbone = ttr.adapt(scramble(tiny_eva(use_post_norm=True)))
    assert isinstance(backbone.model.blocks[0], EvaBlockPostNorm)
    with watch(backbone, DEPTH - 1) as seen:
        layout = record(backbone, images).layout
    with pytest.raises(ModelError, match="EvaBlockPostNorm normalises what its attention gives"):
        split(backbone, layout, DEPTH - 1, seen[DEPTH - 1])
    found = restricted(backbone, layout, DEPTH - 1, seen, parts=["full"])
    torch.testing.assert_close(found["full"], full_output(backbone, layout, seen), rtol=1e-4, atol=1e-4)
    with pytest.raises(OptionError, match="part 'patch'; needed one or more of patches, registers"):
        restricted(backbone, layout, DEPTH - 1, seen, parts=["patch"])


def test_a_model_without_cls_or_with_an_attention_bias_is_refused(images):
    siglip = ttr.adapt(scramble(FAMILIES["transformers-siglip"]()))
    with pytest.raises(ModelError, match="has no CLS token"), watch(siglip, 0):
        pass
    backbone = ttr.adapt(scramble(tiny_vit()))
    neurons = neurons_of(backbone)
    bias = calibrate_bias(backbone, neurons, images)
    with AttentionBias(backbone, neurons, bias):
        with pytest.raises(ModelError, match="carries an attention bias"), watch(backbone, 0):
            pass
        assert hook_count(backbone.model) > 0


def test_only_one_pass_is_watched(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    with pytest.raises(ModelError, match="ran twice; watch one pass"), watch(backbone, 0):
        backbone.embed(images)
        backbone.embed(images)


def test_hooks_are_off_after_an_exception(images):
    backbone = ttr.adapt(scramble(tiny_vit()))
    hooks = hook_count(backbone.model)
    with pytest.raises(RuntimeError, match="on purpose"), watch(backbone, 0):
        raise RuntimeError("on purpose")
    site = Site(backbone.sites.attention[0].module, "output")
    assert hook_count(backbone.model) == hooks
    assert not site.module._forward_hooks
