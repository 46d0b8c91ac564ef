"""Models inside of others are found and their place is said; what is none is refused by what it is."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import transformers
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

import ttr
from tests.backbones.test_contract import neurons_of
from tests.tools.tiny_models import (
    SIZE,
    WIDTH,
    scramble,
    tiny_clip,
    tiny_naflex,
    tiny_torchvision,
    tiny_vit,
)
from ttr.errors import ModelError

VISION = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
VISION |= {"image_size": SIZE, "patch_size": 8, "projection_dim": 16}


class Holder(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, images):
        return self.head(self.backbone(images))


def llava():
    text = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=60
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION), text_config=text, image_token_index=59
    )
    return transformers.LlavaForConditionalGeneration(config)


HOLDERS = {
    "own module": (lambda: Holder(backbone=tiny_vit(), head=nn.Linear(WIDTH, 2)), ".backbone", "Holder"),
    "sequential": (lambda: nn.Sequential(tiny_torchvision(), nn.Linear(3, 2)), ".0", "Sequential"),
    "parallel": (lambda: nn.DataParallel(tiny_clip()), ".module", "DataParallel"),
    "features_only": (
        lambda: timm.create_model("vit_tiny_patch16_224", features_only=True, depth=3, embed_dim=24),
        ".model",
        "FeatureGetterNet",
    ),
    "deeper": (lambda: Holder(net=Holder(encoder=tiny_naflex())), ".net.encoder", "Holder"),
    "llava": (llava, ".model.vision_tower", "LlavaForConditionalGeneration"),
}


@pytest.mark.parametrize("kind", sorted(HOLDERS))
def test_a_model_inside_of_another_is_found_and_its_place_is_said(kind):
    make, where, name = HOLDERS[kind]
    holder = make().eval()
    backbone = ttr.adapt(holder)
    assert backbone.model is holder.get_submodule(where[1:])
    assert str(backbone.weights) == f"in memory ({where} of {name})"
    assert backbone.name == ttr.adapt(backbone.model).name


def test_a_wrap_of_what_is_inside_is_a_wrap_of_the_whole(images):
    inside = scramble(tiny_vit())
    holder = Holder(backbone=inside, head=nn.Linear(WIDTH, 2)).eval()
    neurons = neurons_of(ttr.adapt(inside))
    with torch.no_grad():
        bare = holder(images)
        with ttr.TestTimeRegisters(holder, neurons, num_registers=2):
            wrapped = holder(images)
        with ttr.TestTimeRegisters(copy.deepcopy(inside), neurons, num_registers=2) as wrap:
            expected = holder.head(wrap.model(images))
        assert torch.equal(wrapped, expected)
        assert not torch.allclose(wrapped, bare, atol=1e-4)
        assert torch.equal(holder(images), bare)


def test_feature_maps_of_timms_getter_hold_no_registers():
    getter = scramble(HOLDERS["features_only"][0]())
    backbone = ttr.adapt(getter)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare = getter(images)
        with ttr.TestTimeRegisters(getter, neurons_of(backbone), num_registers=2):
            wrapped, patches = getter(images), backbone.tokens(images).patches
    assert [x.shape for x in wrapped] == [x.shape for x in bare] == [(1, 24, 14, 14)] * 3
    assert not torch.allclose(wrapped[-1], bare[-1], atol=1e-4)
    torch.testing.assert_close(wrapped[-1], backbone.layout.to_grid(patches).permute(0, 3, 1, 2))


def test_llava_sees_the_tower_without_registers(images):
    model = scramble(llava())
    with torch.no_grad():
        bare = model.get_image_features(images).pooler_output
        with ttr.TestTimeRegisters(model, neurons_of(ttr.adapt(model)), num_registers=2):
            wrapped = model.get_image_features(images).pooler_output
    assert [x.shape for x in wrapped] == [x.shape for x in bare] == [(16, 16)] * 5
    assert not torch.allclose(wrapped[0], bare[0], atol=1e-4)


def test_of_two_models_inside_none_is_chosen():
    teacher = Holder(student=tiny_vit(), nested=Holder(teacher=tiny_vit()))
    with pytest.raises(
        ModelError, match=r"Holder holds 2 models .*, \.student, \.nested\.teacher; give one of them"
    ):
        ttr.adapt(teacher)
    shared = tiny_vit()
    assert ttr.adapt(Holder(one=shared, again=shared)).model is shared


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: timm.create_model("convnext_atto"),
            "ConvNeXt is not known: it has no module that is called an att",
        ),
        (lambda: SwinTransformer(img_size=32, patch_size=2, depths=(1, 1), embed_dim=8), "runs in windows"),
        (
            lambda: VisionTransformerSAM(img_size=64, patch_size=16, embed_dim=24, depth=1, num_heads=2),
            "VisionTransformerSAM is not known: .* in windows",
        ),
        (
            lambda: timm.create_model("vitamin_small_224", depth=1),
            r"timm:vitamin_small_224 \(a hybrid, with MbConvStages ahead .*GeGluMlp, without a down",
        ),
        (lambda: transformers.BertModel(transformers.BertConfig(**VISION, vocab_size=9)), "and holds none"),
        (lambda: transformers.BeitModel(transformers.BeitConfig(**VISION)), "BeitModel .* and holds none"),
        (lambda: torch.compile(tiny_vit(), backend="eager"), "is compiled"),
        (lambda: torch.compile(Holder(backbone=tiny_vit()), backend="eager"), "is compiled"),
        (lambda: torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), "is TorchScript"),
        (lambda: "dinov2-vit-l-14", "got builtins.str, which is no PyTorch module"),
    ],
)
def test_what_is_no_plain_vit_is_refused_by_what_it_is(make, complaint):
    with pytest.raises(ModelError, match=complaint) as refused:
        ttr.adapt(make())
    assert "DataParallel" not in str(refused.value)


def test_one_channel_works_and_three_are_refused_then(images):
    model = scramble(tiny_vit(in_chans=1))
    backbone = ttr.adapt(model, preprocess=lambda image: torch.full((1, SIZE, SIZE), 0.5))
    assert backbone.channels == 1
    with torch.no_grad():
        assert torch.equal(backbone.embed(images[:, :1]), model.forward_features(images[:, :1])[:, 0])
    with pytest.raises(ModelError, match=r"shape \(5, 3, 32, 32\); needed \[B, 1, H, W\]"):
        backbone.embed(images)
    compared = next(ttr.compare(backbone, neurons_of(backbone), images[:, :1]))
    assert compared.pixels.shape == (SIZE, SIZE, 3)
    with pytest.raises(ModelError, match="came without preprocessing"):
        ttr.adapt(timm.create_model("vit_tiny_patch16_224", in_chans=1, depth=1)).preprocess(
            transformers.image_utils.PIL.Image.new("RGB", (40, 40))
        )
