"""Every method against the same model with attention by hand in the place of the fused kernel.

What the reference shares with ttr is where the tokens of a block pass; weights, gradients and products are
torch's own, of whole matrices.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import ttr
from tests.tools.eager_attention import eager_attention
from tests.tools.tiny_models import FAMILIES, PATCH, SIZE, WIDTH, scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.attribution.attribute import WITHOUT_TARGET, Method
from ttr.errors import ModelError
from ttr.hooks import Site, keep


def gated(model):
    for block in model.blocks:
        block.attn.gate = nn.Linear(WIDTH, WIDTH)
    return model


MODELS = {
    **FAMILIES,
    "timm-mean": partial(tiny_vit, global_pool="avg", class_token=False, fc_norm=False),
    "timm-map": partial(tiny_vit, global_pool="map", class_token=False),
    "open-clip-coca": partial(tiny_clip, attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2),
    "gated": lambda: gated(tiny_vit()),
    "eva-inner-norm": partial(tiny_eva, scale_attn_inner=True, global_pool="token"),
}
#: Models whose answer is made of patches alone: those of all others hold CLS.
OF_PATCHES = {"eva-02", "eva-bias", "open-clip-late-norm", "transformers-ijepa", "timm-mean"}
BY_ATTENTION = {"transformers-siglip", "timm-map", "open-clip-coca"}
#: What a model makes of one vector a token that is the same at every place, by its own modules.
TAILS = {
    "timm": lambda m, x: m.fc_norm(m.norm(x)),
    "gated": lambda m, x: m.norm(x),
    "eva": lambda m, x: m.fc_norm(m.norm(x)),
    "eva-dinov3": lambda m, x: m.norm(x),
    "open": lambda m, x: m.visual.ln_post(x) @ m.visual.proj,
    "open-clip-tower": lambda m, x: m.ln_post(x) @ m.proj,
    "torchvision": lambda m, x: m.encoder.ln(x),
    "transformers": lambda m, x: m.layernorm(x),
    "transformers-dinov2-classifier": lambda m, x: m.dinov2.layernorm(x).repeat(1, 2),
    "transformers-dinov3": lambda m, x: m.norm(x),
    "transformers-dinov3-gated": lambda m, x: m.norm(x),
    "transformers-clip": lambda m, x: m.post_layernorm(x),
    "transformers-clip-projection": lambda m, x: m.visual_projection(m.vision_model.post_layernorm(x)),
    "transformers-vit": lambda m, x: m.vit.layernorm(x),
}
SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9)])
COUNTS = (None, 0, 1, 4)
#: Each model bare or with one number of registers, and one of each library with all of them.
ASKED = sorted(
    {(name, COUNTS[place % 4] if name != "timm-beit" else 0) for place, name in enumerate(MODELS)}
    | {(name, count) for name in ("timm-reg4", "open-clip", "transformers-dinov2") for count in COUNTS},
    key=str,
)
TARGET = torch.tensor([2, 0])


class Eager:
    """One pass with attention by hand, and each method of its weights."""

    def __init__(self, name: str, backbone: ttr.Backbone, images: torch.Tensor, head: nn.Linear, count: int):
        self.name, self.backbone, self.head = name, backbone, head
        self.images = images.clone().requires_grad_()
        sites = backbone.sites
        last = Site(sites.blocks[-1].module, "input")
        with eager_attention() as seen, keep(sites.blocks) as self.blocks, keep([last]) as entered:
            feature = backbone.features(self.images)
        self.entered = entered[0]
        self.weights, self.values = zip(*seen[: backbone.num_layers], strict=True)
        self.held = slice(self.blocks[0].shape[1])  # without the key of an attention bias
        self.score = self.of(feature)
        self.ahead = backbone.layout.prefix + count
        self.cls, self.patches = slice(0, backbone.layout.cls), slice(self.ahead, None)

    def of(self, feature):
        return self.head(feature)[range(2), TARGET].sum()

    def read(self, matrix, *, answer):
        own = (
            self.patches
            if not self.backbone.layout.cls or (answer and self.name in OF_PATCHES | BY_ATTENTION)
            else self.cls
        )
        return matrix[..., own, self.patches].mean(dim=-2)

    def product(self, matrices, *, normalised):
        whole = one = torch.eye(matrices[0].shape[-1])
        for matrix in matrices:
            step = matrix + one
            whole = (step / step.sum(dim=-1, keepdim=True) if normalised else step) @ whole
        return whole

    def weighted(self):
        found = torch.autograd.grad(self.score, self.weights, retain_graph=True)
        return [(a * g).relu().mean(dim=1)[..., self.held] for a, g in zip(self.weights, found, strict=True)]

    def attention(self):
        return self.read(self.weights[-1].mean(dim=1)[..., self.held], answer=False)

    def value_attention(self):
        module = self.backbone.sites.attention[-1].module
        names = ("proj", "out_proj", "o_proj")
        weight = next(getattr(module, name) for name in names if hasattr(module, name)).weight
        heads = self.values[-1].shape[1]
        written = torch.einsum("bhnd,ehd->bhne", self.values[-1], weight.unflatten(1, (heads, -1)))
        taken = self.weights[-1] * written.norm(dim=-1)[:, :, None]
        return self.read(taken.mean(dim=1)[..., self.held], answer=False)

    def rollout(self):
        means = [a.mean(dim=1)[..., self.held] for a in self.weights]
        return self.read(self.product(means, normalised=True), answer=False)

    def gradient_rollout(self):
        return self.read(self.product(self.weighted(), normalised=True), answer=True)

    def chefer(self):
        return self.read(self.product(self.weighted(), normalised=False), answer=True)

    def tail(self, tokens):
        image = torch.cat([tokens[:, self.cls], tokens[:, self.patches]], dim=1)
        model = self.backbone.model
        if self.name == "transformers-siglip":
            return model.head(model.post_layernorm(image))
        if self.name == "timm-map":
            return model.fc_norm(model.attn_pool(model.norm(image)))
        if self.name == "open-clip-coca":
            return model.visual.ln_post(model.visual.attn_pool(image))[:, 0] @ model.visual.proj
        own = TAILS.get(self.name) or TAILS[self.name.partition("-")[0]]
        return own(model, image.mean(dim=1))

    def legrad(self):
        total = 0
        for weights, tokens in zip(self.weights, self.blocks, strict=True):
            score = self.of(self.tail(tokens))
            total = total + torch.autograd.grad(score, weights, retain_graph=True)[0].relu().mean(dim=(1, 2))
        return (total / len(self.weights))[:, self.held][:, self.patches]

    def gradcam(self):
        slope = torch.autograd.grad(self.score, self.entered, retain_graph=True)[0][:, self.patches]
        return torch.einsum("bnd,bd->bn", self.entered[:, self.patches], slope.mean(dim=1)).relu()

    def input_gradient(self):
        slope = torch.autograd.grad(self.score, self.images, retain_graph=True)[0].abs()
        return slope.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).mean(dim=(1, 4, 5)).flatten(1)


def agree(name, backbone, images, count):
    """Hold every method but perturbation, whose reference is another, to the eager pass."""
    head = nn.Linear(backbone.embed(images).shape[1], 3)
    reference = Eager(name, backbone, images, head, count)
    for method in Method.__args__[:-1]:
        asked = {} if method in WITHOUT_TARGET else {"target": TARGET, "head": head}
        by_row = method not in ("legrad", "gradcam", "input-gradient")
        if name in BY_ATTENTION and by_row and (asked or not backbone.layout.cls):
            with pytest.raises(ModelError, match="pools its tokens by an attention"):
                ttr.attribute(backbone, images, method=method, **asked)
            asked["query"] = "patches"  # of which the mean is read below
        if name in ("eva-inner-norm", "gated") and method == "value-attention":
            with pytest.raises(ModelError, match="pass a norm or a gate"):
                ttr.attribute(backbone, images, method=method)
            continue
        found = ttr.attribute(backbone, images, method=method, **asked)
        expected = getattr(reference, method.replace("-", "_"))().detach()
        assert expected.std() > 0
        assert (found.shape, found.dtype) == ((2, *backbone.layout.grid), torch.float32)
        torch.testing.assert_close(
            found.flatten(1), expected, atol=1e-5, rtol=1e-5, msg=lambda m, method=method: f"{method}: {m}"
        )


@pytest.fixture
def pair():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "count"), ASKED, ids=str)
def test_values_are_those_of_attention_by_hand(name, count, pair):
    torch.manual_seed(0)
    backbone = ttr.adapt(scramble(MODELS[name]()))
    if count is None:
        agree(name, backbone, pair, 0)
        return
    with ttr.TestTimeRegisters(backbone, SOME, num_registers=count):
        agree(name, backbone, pair, count)


@pytest.mark.parametrize("name", ["timm-reg4", "open-clip", "eva-inner-norm"])
def test_under_an_attention_bias_its_key_takes_part_and_is_not_shown(name, pair):
    backbone = ttr.adapt(scramble(MODELS[name]()))
    calibration = ttr.calibrate_bias(backbone, SOME, pair)
    with ttr.AttentionBias(backbone, SOME, calibration):
        agree(name, backbone, pair, 0)
