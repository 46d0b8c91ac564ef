"""The feature is what the model's own forward gives its head, bare and wrapped, whoever wrote the forward."""

from __future__ import annotations

import copy
import threading
from functools import partial

import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import ttr
from tests.backbones.test_contract import TOLERANCE, neurons_of
from tests.tools.tiny_models import (
    DEPTH,
    DINOV3,
    HEADS,
    PATCH,
    SIZE,
    WIDTH,
    scramble,
    tiny_eva,
    tiny_vit,
)
from ttr.errors import ModelError, OptionError

SIZES = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}


class PooledInForwardFeatures(VisionTransformer):
    """As RETFound's and MAE's fine-tuned models: pooled and normalised where others return tokens."""

    def forward_features(self, x):
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)), dim=1) + self.pos_embed
        return self.fc_norm(self.norm(self.blocks(self.norm_pre(x)))[:, 1:].mean(dim=1))

    def forward(self, x):
        return self.head(self.forward_features(x))


class HeadOfAnotherName(VisionTransformer):
    """Its author left ``head`` alone."""

    def __init__(self, **options):
        super().__init__(**options)
        self.answer = nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, 5))

    def forward(self, x):
        return self.answer(self.forward_features(x)[:, 1:].amax(dim=1))


class NoHead(VisionTransformer):
    """It returns CLS and the mean of the patches, side by side, or whatever it is told to."""

    returns = staticmethod(lambda tokens: torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))

    def forward(self, x):
        return self.returns(self.forward_features(x))


def without_norm():
    model = PooledInForwardFeatures(**SIZES, num_classes=5, global_pool="avg")
    del model.norm
    model.forward_features = lambda x: model.fc_norm(
        model.blocks(model._pos_embed(model.patch_embed(x)))[:, 1:].mean(1)
    )
    return model


vit = partial(tiny_vit, num_classes=5)
eva = partial(tiny_eva, num_classes=5)
#: What a model pools, and the word for it.
POOLINGS = {
    "token": (vit, "cls"),
    "avg": (partial(vit, global_pool="avg"), "avg"),
    "avg, trained registers": (partial(vit, global_pool="avg", fc_norm=False, reg_tokens=2), "avg"),
    "avg, no cls": (partial(vit, global_pool="avg", class_token=False), "avg"),
    "avgmax": (partial(vit, global_pool="avgmax"), "avgmax"),
    "max": (partial(vit, global_pool="max"), "max"),
    "map": (partial(vit, global_pool="map"), "map"),
    "map, no cls": (partial(vit, global_pool="map", class_token=False), "map"),
    "nothing": (partial(vit, global_pool="token", num_classes=0), "cls"),
    "eva avg": (eva, "avg"),
    "eva map": (partial(eva, global_pool="map"), "map"),
    "dinov3 with a head": (partial(eva, **DINOV3), "avg"),
    "pooled in forward_features": (
        partial(PooledInForwardFeatures, **SIZES, num_classes=5, global_pool="avg"),
        "own forward",
    ),
}


@pytest.mark.parametrize("what", sorted(POOLINGS))
def test_the_models_own_head_answers_as_the_model_bare_and_wrapped(what, images):
    make, word = POOLINGS[what]
    model = scramble(make())
    backbone = ttr.adapt(model)
    assert backbone.pooling == word
    bare = backbone.embed(images)
    with torch.no_grad():
        torch.testing.assert_close(model.head(bare), model(images), **TOLERANCE)
        with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=3):
            wrapped = backbone.embed(images)
            torch.testing.assert_close(model.head(wrapped), model(images), **TOLERANCE)
    assert (wrapped - bare).abs().max() > 1e-3


def test_what_is_pooled_is_said_of_the_model_as_it_is_now(images):
    model = scramble(vit())
    backbone = ttr.adapt(model)
    for told in (
        partial(setattr, model, "global_pool", "avg"),
        partial(model.reset_classifier, 5, global_pool="max"),
    ):
        told()
        assert backbone.pooling == model.global_pool != "cls"
        with torch.no_grad():
            expected = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(backbone.embed(images), expected, **TOLERANCE)


def test_of_a_distilled_model_it_is_the_mean_of_both_tokens(images):
    model = scramble(VisionTransformerDistilled(**SIZES, num_classes=5))
    backbone = ttr.adapt(model)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    assert backbone.pooling == "distilled"
    torch.testing.assert_close(backbone.embed(images), expected, **TOLERANCE)


def test_a_pooled_feature_of_the_wrapped_model_leaves_registers_out(images):
    model = scramble(tiny_vit(global_pool="avg", fc_norm=False, reg_tokens=2))
    backbone = ttr.adapt(model)
    with ttr.TestTimeRegisters(backbone, neurons_of(backbone), num_registers=3):
        own, tokens = backbone.embed_with_tokens(images)
        asked = backbone.embed(images, pooling="patches")
    assert tokens.test_time.shape[1] == 3
    torch.testing.assert_close(own, tokens.patches.mean(dim=1), **TOLERANCE)
    torch.testing.assert_close(asked, own, **TOLERANCE)
    with_registers = torch.cat([tokens.test_time, tokens.patches], dim=1).mean(dim=1)
    assert (own - with_registers).abs().max() > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        partial(tiny_vit, init_values=0.5),
        partial(tiny_eva, **DINOV3),
    ],
)
def test_dinov2_and_dinov3_are_cls_as_their_authors_publish_them(make, images):
    """Those of transformers are among the families of the contract."""
    backbone = ttr.adapt(scramble(make()))
    assert (backbone.pooling, backbone.beside_cls) == ("cls", "")
    torch.testing.assert_close(backbone.embed(images), backbone.tokens(images).cls, **TOLERANCE)


def test_a_head_of_another_name_is_found_and_without_one_the_output_is_the_feature(images):
    named = scramble(HeadOfAnotherName(**SIZES, num_classes=0))
    own = ttr.adapt(named).embed(images)
    with torch.no_grad():
        torch.testing.assert_close(named.answer(own), named(images), **TOLERANCE)
    bare = scramble(NoHead(**SIZES, num_classes=7))
    torch.testing.assert_close(ttr.adapt(bare).embed(images), bare(images).detach(), **TOLERANCE)
    bare.returns = lambda tokens: {"tokens": tokens}
    with pytest.raises(
        ModelError, match="NoHead makes a dict where its feature was to be, one vector an image"
    ):
        ttr.adapt(bare).embed(images)


def test_retfound_without_its_norm_is_the_mean_that_its_fc_norm_gave(images):
    model = scramble(without_norm())
    backbone = ttr.adapt(model)
    with torch.no_grad():
        torch.testing.assert_close(model.head(backbone.embed(images)), model(images), **TOLERANCE)
    assert "made by a forward of its own" in backbone.beside_cls


@pytest.mark.parametrize("class_token", [True, False])
def test_a_model_that_pools_nothing_is_cls_or_the_mean_of_its_patches(class_token, images):
    make = partial(tiny_vit, global_pool="", class_token=class_token, reg_tokens=2)
    backbone = ttr.adapt(scramble(make()))
    tokens = backbone.tokens(images)
    expected = tokens.cls if class_token else tokens.patches.mean(dim=1)
    assert backbone.pooling == ("cls" if class_token else "patches")
    torch.testing.assert_close(backbone.embed(images), expected, **TOLERANCE)


def test_cls_and_patches_can_be_asked_for_or_are_refused_by_name(images):
    backbone = ttr.adapt(scramble(tiny_vit(global_pool="avg")))
    tokens = backbone.tokens(images)
    torch.testing.assert_close(backbone.embed(images, pooling="cls"), tokens.cls, **TOLERANCE)
    torch.testing.assert_close(
        backbone.embed(images, pooling="patches"), tokens.patches.mean(dim=1), **TOLERANCE
    )
    assert backbone.with_pooling("own") is backbone
    assert backbone.with_pooling("cls").pooling == "cls"
    assert "is not CLS alone (avg)" in backbone.beside_cls
    with pytest.raises(OptionError, match="pooling='mean'; needed one of 'own', 'cls', 'patches'"):
        backbone.embed(images, pooling="mean")
    headless = ttr.adapt(scramble(tiny_vit(class_token=False, global_pool="avg")))
    with pytest.raises(ModelError, match="has no CLS token to take as its feature; choose pooling='own'"):
        headless.embed(images, pooling="cls")


def test_two_threads_are_each_given_the_feature_of_their_own_images(images):
    model = scramble(vit(global_pool="avg"))
    backbone = ttr.adapt(model)
    alone = [backbone.embed(images[:2]), backbone.embed(images[2:4])]
    together = threading.Barrier(2, timeout=30)

    def meet(*_):
        together.wait()

    for module in (model.blocks[0], model.head):
        module.register_forward_hook(meet)
    found = {}

    def ask(index):
        found[index] = backbone.embed(images[2 * index : 2 * index + 2])

    threads = [threading.Thread(target=ask, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        torch.testing.assert_close(found[index], alone[index], **TOLERANCE)


def test_a_copy_and_a_compiled_model_give_their_own(images):
    model = scramble(vit(global_pool="avg"))
    backbone = ttr.adapt(model)
    before = backbone.embed(images)
    changed = copy.deepcopy(backbone)
    with torch.no_grad():
        changed.model.fc_norm.bias.add_(1)
    torch.testing.assert_close(changed.embed(images), before + 1, **TOLERANCE)
    model._compiled_call_impl = lambda *_: pytest.fail("what was compiled shows nothing")
    torch.testing.assert_close(backbone.embed(images), before, **TOLERANCE)


#: Of each kind in timm: names, of which the first few are looked at by default.
KINDS = ("vision_transformer", "eva", "deit", "vision_transformer_hybrid")
SOME = (
    *("vit_base_patch16_224", "eva_large_patch14_196", "vit_base_patch16_siglip_224"),
    *("deit_tiny_distilled_patch16_224", "vit_pe_core_tiny_patch16_384", "eva02_tiny_patch14_224"),
    *("beit3_base_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"),
)


def compare_with_timm(name):
    """Return whether a shallow, narrow model of an architecture is known; its feature is then timm's."""
    try:
        model = timm.create_model(name, depth=1, embed_dim=64, num_heads=2).eval()
        backbone = ttr.adapt(model)
    except (ModelError, AssertionError, RuntimeError):  # not to be had so small, or refused
        return False
    size = backbone.image_size
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens = model.forward_features(images)
        own = tokens[:, 0] if "_dinov3" in name else model.forward_head(tokens, pre_logits=True)
    torch.testing.assert_close(backbone.embed(images), own, **TOLERANCE)
    return True


@pytest.mark.parametrize("name", SOME)
def test_the_feature_of_a_timm_architecture_is_timms_own(name):
    assert compare_with_timm(name)


@pytest.mark.slow
def test_the_feature_of_every_timm_architecture_is_timms_own():
    names = [name for name in timm.list_models() if timm.models.is_model_in_modules(name, KINDS)]
    assert sum(map(compare_with_timm, names)) > 200


def test_a_head_that_is_asked_twice_in_a_pass_has_no_feature_of_an_image(images):
    class Views(type(tiny_vit())):
        def forward(self, x):
            return super().forward(x) + super().forward(x.flip(3))

    model = scramble(tiny_vit(num_classes=3))
    model.__class__ = Views
    with pytest.raises(ModelError, match="is reached twice in one pass"):
        ttr.adapt(model).embed(images)


@pytest.mark.parametrize("place", [1, 17])
def test_tokens_that_a_forward_adds_are_not_taken_for_others(images, place):
    class Prompted(type(tiny_vit())):
        def _pos_embed(self, x):
            x = super()._pos_embed(x)
            return torch.cat([x[:, :place], x[:, :3], x[:, place:]], dim=1)

    model = scramble(tiny_vit())
    model.__class__ = Prompted
    with pytest.raises(ModelError, match="makes 20 tokens of such images; needed 1 ahead of the patches"):
        ttr.adapt(model).tokens(images)
    with pytest.raises(ModelError, match="makes 20 tokens"):
        ttr.detect(model, images)


def test_settings_and_code_inside_a_model_decide_its_features():
    class Doubled(nn.GELU):
        def forward(self, x):
            return 2 * super().forward(x)

    first = scramble(tiny_vit())

    def changed(change):
        model = copy.deepcopy(first)
        change(model)
        return ttr.adapt(model)

    def double(model):
        model.blocks[1].mlp.act.__class__ = Doubled

    plain = changed(lambda model: None)
    for change in (lambda m: setattr(m.blocks[1].attn, "scale", 1.0), double):
        other = changed(change)
        assert other.weights_hash == plain.weights_hash
        assert other.fingerprint != plain.fingerprint
    neurons = ttr.RegisterNeurons.from_pairs([(1, 3)])
    with ttr.TestTimeRegisters(plain, neurons):
        wrapped = plain.fingerprint
    assert wrapped == plain.fingerprint == changed(lambda model: None).fingerprint
