"""What may be asked of the one door, of what, and how it leaves the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ttr
from tests.tools.eager_attention import eager_attention
from tests.tools.tiny_models import FAMILIES, PATCH, SIZE, WIDTH, scramble, tiny_clip, tiny_monai, tiny_vit
from ttr.attribution.attribute import WITHOUT_TARGET, Method
from ttr.errors import ImageError, ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.hooks import Site, edit

METHODS = Method.__args__
OF_ANSWERS = tuple(method for method in METHODS if method not in WITHOUT_TARGET)
SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9)])


@pytest.fixture
def trio():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def backbone():
    return ttr.adapt(scramble(tiny_vit(num_classes=5)))


@pytest.mark.parametrize("family", ["timm-vit", "open-clip", "transformers-dinov2-reg4"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_batch_is_its_images_one_by_one(family, wrapped, trio):
    backbone = ttr.adapt(scramble(FAMILIES[family]()))
    torch.manual_seed(0)
    head = nn.Linear(backbone.embed(trio).shape[1], 3)
    wrap = ttr.TestTimeRegisters(backbone, SOME, num_registers=2)
    if wrapped:
        wrap.install()
    for method in METHODS:
        asked = {} if method in WITHOUT_TARGET else {"head": head}
        targets = [{} if method in WITHOUT_TARGET else {"target": each} for each in (2, 0, 1)]
        together = {} if method in WITHOUT_TARGET else {"target": [2, 0, 1]}
        found = ttr.attribute(backbone, trio, method=method, batch_size=2, **asked, **together)
        alone = [
            ttr.attribute(backbone, x[None], method=method, **asked, **target)
            for x, target in zip(trio, targets, strict=True)
        ]
        assert found.shape == (3, *backbone.layout.grid)
        torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-4)
    wrap.remove()


@pytest.mark.parametrize("count", [0, 4])
def test_perturbation_is_the_drop_without_each_patch(backbone, count, trio):
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=count), torch.no_grad():
        found = ttr.attribute(backbone, trio, method="perturbation", target=3, batch_size=5)
        for row, column in ((0, 0), (1, 2), (3, 3)):
            without = trio.clone()
            without[:, :, PATCH * row :, PATCH * column :][:, :, :PATCH, :PATCH] = 0
            drop = (backbone.model(trio) - backbone.model(without))[:, 3]
            torch.testing.assert_close(found[:, row, column], drop, atol=1e-5, rtol=1e-5)


def test_a_block_a_head_and_a_query_are_those_that_were_asked_for(backbone, trio):
    with eager_attention() as seen:
        backbone.model(trio)
    weights = seen[1][0].detach()[:, 1]
    for query, row in (("cls", weights[:, 0]), ((2, 3), weights[:, 1 + 2 * 4 + 3])):
        found = ttr.attribute(backbone, trio, block=1, attention_head=1, query=query)
        torch.testing.assert_close(found.flatten(1), row[:, 1:], atol=1e-6, rtol=1e-5)
    found = ttr.attribute(backbone, trio, block=-2, attention_head=1, query="patches")
    torch.testing.assert_close(found.flatten(1), weights[:, 1:, 1:].mean(dim=1), atol=1e-6, rtol=1e-5)


def test_attention_of_monai_is_what_its_own_unfused_module_keeps(trio):
    model = scramble(tiny_monai(classification=True, num_classes=3, save_attn=True))
    found = ttr.attribute(ttr.adapt(model), trio)
    kept = model.blocks[-1].attn.att_mat
    torch.testing.assert_close(found.flatten(1), kept.mean(dim=1)[:, 0, 1:], atol=1e-6, rtol=1e-5)


def test_checkpointed_blocks_give_the_same(backbone, trio):
    expected = {method: ttr.attribute(backbone, trio, method=method) for method in ("chefer", "legrad")}
    backbone.model.set_grad_checkpointing()
    for method, values in expected.items():
        torch.testing.assert_close(ttr.attribute(backbone, trio, method=method), values)


def test_images_may_be_pictures(backbone):
    pictures = [Image.new("RGB", (40, 40), (grey, 90, 10)) for grey in (0, 200)]
    inputs = torch.linspace(-1, 1, 3 * SIZE * SIZE).reshape(3, SIZE, SIZE)
    backbone = ttr.adapt(backbone.model, preprocess=lambda picture: inputs * picture.getpixel((0, 0))[0] / 99)
    tensors = torch.stack([backbone.preprocess(picture) for picture in pictures])
    found = ttr.attribute(backbone, pictures, method="rollout")
    torch.testing.assert_close(found, ttr.attribute(backbone, tensors, method="rollout"))


def test_images_of_two_sizes_are_refused():
    backbone = ttr.adapt(tiny_vit(dynamic_img_size=True).eval())
    sizes = [torch.zeros(3, SIZE, SIZE), torch.zeros(3, SIZE, 2 * SIZE)]
    with pytest.raises(ImageError, match="several sizes"):
        ttr.attribute(backbone, sizes, batch_size=1)


def test_without_a_target_it_is_the_highest_class_of_the_answer(backbone, trio):
    """LeGrad and perturbation look at other features, too: their class stays the answer's."""
    highest = backbone.model(trio).argmax(dim=1)
    assert len(set(highest.tolist())) > 1
    own = backbone.model.head
    head = LinearHead(own.weight.detach(), own.bias.detach(), tuple("abcde"))
    for method in OF_ANSWERS:
        found = ttr.attribute(backbone, trio, method=method)
        torch.testing.assert_close(
            found, ttr.attribute(backbone, trio, method=method, target=highest, head=head)
        )
    by_name = ttr.attribute(backbone, trio, method="chefer", target="c", head=head)
    torch.testing.assert_close(by_name, ttr.attribute(backbone, trio, method="chefer", target=2))


@pytest.mark.parametrize("family", ["torchvision", "transformers-vit", "transformers-dinov2-classifier"])
def test_the_models_own_classifier_makes_its_own_logits(family, trio):
    backbone = ttr.adapt(scramble(FAMILIES[family]()))
    given = trio.clone().requires_grad_()
    logits = backbone.model(given)
    logits = getattr(logits, "logits", logits)
    (slope,) = torch.autograd.grad(logits[:, 1].sum(), given)
    expected = nn.functional.avg_pool2d(slope.abs().mean(dim=1), PATCH)
    found = ttr.attribute(backbone, trio, method="input-gradient", target=1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_text_is_the_cosine_to_its_embedding(trio):
    clip = scramble(tiny_clip())
    tokens = torch.tensor([[1, 7, 9, 99, 0, 0, 0, 0]])
    backbone = ttr.adapt(clip)
    asked = {"target": "a nodule", "tokenizer": lambda texts: tokens}
    found = ttr.attribute(backbone, trio, method="input-gradient", **asked)
    given = trio.clone().requires_grad_()
    text = nn.functional.normalize(clip.encode_text(tokens), dim=-1)[0].detach()
    cosines = nn.functional.normalize(clip.encode_image(given), dim=-1) @ text
    (slope,) = torch.autograd.grad(cosines.sum(), given)
    expected = nn.functional.avg_pool2d(slope.abs().mean(dim=1), PATCH)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    for method in ("chefer", "legrad", "perturbation"):
        assert ttr.attribute(backbone, trio, method=method, **asked).std() > 0
    with pytest.raises(ModelError, match="or as target= a text"):
        ttr.attribute(backbone, trio, method="chefer")


def state(model: nn.Module) -> list:
    modules = [*model.modules()]
    return [
        [len(x._forward_hooks) + len(x._forward_pre_hooks) for x in modules],
        [x.training for x in modules],
        ["forward" in vars(x) for x in modules],
        [(x.requires_grad, x.grad) for x in model.parameters()],
    ]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_model_and_the_images_are_left_as_they_were(mode, trio):
    """Dropout, which the model was built with, is off for the pass alone."""
    model = scramble(tiny_vit(num_classes=5, proj_drop_rate=0.5)).train()
    backbone = ttr.adapt(model)
    model.blocks[0].eval()
    for parameter in [*model.blocks[1].parameters(), *model.patch_embed.parameters()]:
        parameter.requires_grad_(False)
    before, pixels = state(model), trio.clone()
    expected = ttr.attribute(backbone, trio, method="legrad", target=1)
    with mode():
        for method in METHODS:
            asked = {} if method in WITHOUT_TARGET else {"target": 1}
            found = ttr.attribute(backbone, trio.clone(), method=method, **asked)
            assert not found.requires_grad
            if method == "legrad":
                assert torch.equal(found, expected)
            assert state(model) == before
    assert torch.equal(trio, pixels)
    assert not trio.requires_grad


def test_the_model_is_left_as_it_was_after_a_failure(backbone, trio):
    before = state(backbone.model)
    with pytest.raises(OptionError, match="5 classes"):
        ttr.attribute(backbone, trio, method="legrad", target=5)

    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="middle"), edit([(Site(backbone.model.norm, "input"), fail)]):
        ttr.attribute(backbone, trio, method="legrad", target=1)
    assert state(backbone.model) == before


def test_half_precision_is_near_full(trio):
    model = scramble(tiny_vit(num_classes=5))
    asked = {"rollout": {}, "chefer": {"target": 1}, "legrad": {"target": 1}}
    full = {m: ttr.attribute(ttr.adapt(model), trio, method=m, **asked[m]) for m in asked}
    backbone = ttr.adapt(model.bfloat16())
    for method, expected in full.items():
        found = ttr.attribute(backbone, trio, method=method, **asked[method])
        assert found.dtype == torch.float32
        likeness = nn.functional.cosine_similarity(found.flatten(1), expected.flatten(1))
        assert likeness.min() > 0.98, method


def test_what_gives_no_gradient_is_refused(backbone, trio):
    with (
        edit([(Site(backbone.model.blocks[1], "output"), torch.detach)]),
        pytest.raises(ModelError, match="no gradient comes through VisionTransformer"),
    ):
        ttr.attribute(backbone, trio, method="chefer", target=1)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"method": "lime"}, OptionError, "needed one of attention, value-attention"),
        ({"method": "rollout", "target": 1}, OptionError, "takes no target; it knows query"),
        ({"method": "rollout", "tokenizer": len}, OptionError, "takes no tokenizer"),
        ({"attention_head": 1.0}, OptionError, r"0\.\.1"),
        ({"query": np.array([0, 0])}, OptionError, "4x4 grid"),
        ({"method": "chefer", "target": 1j, "head": nn.Linear(WIDTH, 2)}, OptionError, "needed a class"),
        ({"method": "chefer", "target": ["a", "b"]}, OptionError, "one text for all"),
        ({"method": "chefer", "target": 0, "head": nn.Linear(WIDTH, 0)}, OptionError, "has no class"),
        (
            {"method": "chefer", "target": 0, "head": nn.Linear(WIDTH, 2, device="meta")},
            OptionError,
            "has no values yet",
        ),
        ({"method": "rollout", "block": 1}, OptionError, "takes no block"),
        ({"method": "legrad", "query": "cls"}, OptionError, "takes no query; it knows head, target, tok"),
        ({"block": 3}, ModelError, "has 3 blocks"),
        ({"attention_head": 2}, OptionError, r"0\.\.1"),
        ({"query": (4, 0)}, OptionError, "4x4 grid"),
        ({"query": "nose"}, OptionError, "'cls', 'patches' or a patch"),
        ({"images": []}, ImageError, "no images"),
        ({"method": "chefer"}, ModelError, "no classifier of its own.*give head="),
        ({"method": "chefer", "target": "a nodule"}, ModelError, "no text tower"),
        ({"method": "chefer", "target": 0, "head": nn.Linear(WIDTH + 1, 2)}, ModelError, "features of size"),
        ({"method": "chefer", "target": [0, 1], "head": nn.Linear(WIDTH, 2)}, OptionError, "targets for 3"),
        ({"method": "chefer", "target": [0] * 4, "head": nn.Linear(WIDTH, 2)}, OptionError, "4 targets"),
        ({"method": "chefer", "target": 0.5, "head": nn.Linear(WIDTH, 2)}, OptionError, "needed a class"),
        ({"method": "chefer", "target": "cat", "head": nn.Linear(WIDTH, 2)}, OptionError, "no names"),
        ({"method": "chefer", "target": 0, "head": nn.Identity()}, OptionError, "is a Identity"),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_refused(asked, error, words, trio):
    with pytest.raises(error, match=words):
        ttr.attribute(ttr.adapt(tiny_vit().eval()), asked.pop("images", trio), **asked)


def test_images_that_want_gradients_give_the_same_maps(backbone, trio):
    for method in ("attention", "legrad", "input-gradient", "perturbation"):
        wanted = trio.clone().requires_grad_()
        found = ttr.attribute(backbone, wanted, method=method)
        torch.testing.assert_close(found, ttr.attribute(backbone, trio, method=method))
        assert wanted.grad is None
        assert not found.requires_grad


def test_a_model_may_be_given_instead_of_a_backbone_and_numbers_of_numpy(backbone, trio):
    one = np.int64(1)
    found = ttr.attribute(backbone.model, trio, attention_head=one, query=(one, one), block=one)
    expected = ttr.attribute(backbone, trio, attention_head=1, query=(1, 1), block=1)
    torch.testing.assert_close(found, expected)


def test_maps_that_are_no_numbers_are_refused(backbone, trio):
    head = nn.Linear(WIDTH, 2)
    nn.init.constant_(head.weight, math.nan)
    with pytest.raises(ModelError, match="maps of 3 of 3 images are no numbers"):
        ttr.attribute(backbone, trio, method="gradcam", head=head)
    with pytest.raises(ModelError, match="maps of 1 of 3 images .* scale the images"):
        ttr.attribute(backbone, torch.cat([trio[:2], 1e38 * trio[2:]]))


def test_targets_are_counted_before_anything_runs(backbone, trio):
    ran = []
    entry = backbone.model.blocks[0].register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(OptionError, match="got 2 targets for 3 images"):
        ttr.attribute(backbone, trio, method="gradcam", target=[0, 1], batch_size=1)
    assert ran == []
    entry.remove()
    with pytest.raises(OptionError, match="got 2 targets for 3 images or more"):
        ttr.attribute(backbone, iter(trio), method="gradcam", target=[0, 1], batch_size=1)
    with pytest.raises(OptionError, match=r"target 9, but the head has 5 classes; give 0\.\.4"):
        ttr.attribute(backbone, trio, method="gradcam", target=[0, 9, 1])
