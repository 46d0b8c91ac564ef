"""Every method against the eager model with its own attention weights, and what may be asked of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import ttr
from tests.tools.tiny_models import FAMILIES, SIZE, WIDTH, scramble, tiny_clip, tiny_eva, tiny_vit
from ttr.errors import ModelError, OptionError
from ttr.evaluate.heads import LinearHead

SOME = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 5), (1, 9)])
METHODS = ("attention", "value-attention", "rollout")
WITH_TARGET = ("gradient-rollout", "chefer", "legrad", "gradcam", "input-gradient", "perturbation")
MODELS = {
    "vit": lambda: tiny_vit(num_classes=5),
    "registers": lambda: tiny_vit(
        num_classes=5, reg_tokens=4, no_embed_class=True, init_values=0.5, qk_norm=True
    ),
    "mean": lambda: tiny_vit(num_classes=5, global_pool="avg", class_token=False, fc_norm=False),
    "rotary": lambda: tiny_eva(num_classes=5, global_pool="token", qkv_bias=False),
}
REFUSED = {
    "eva-02": {"legrad"},
    "eva-bias": {"legrad"},
    "open-clip-late-norm": {"legrad"},
    "transformers-dinov2-classifier": {"legrad"},
    "transformers-siglip": {*METHODS, "gradient-rollout", "chefer", "legrad"},
}
TARGET = torch.tensor([3, 1])


@pytest.fixture
def images():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


class Eager:
    """The same model with unfused attention, whose weights pass through its dropout and are kept there."""

    def __init__(self, backbone, images, count):
        self.weights, self.blocks, self.entered = [], [], []
        model = self.model = backbone.model
        self.images = images.clone().requires_grad_()
        self.ahead = backbone.layout.prefix + count
        self.reads = slice(0, 1) if backbone.layout.cls else slice(-backbone.layout.patches, None)
        handles = [model.blocks[-1].register_forward_pre_hook(lambda _, args: self.entered.append(args[0]))]
        for block in model.blocks:
            block.attn.fused_attn = False
            keep = lambda _, args, out: self.weights.append(out)  # noqa: E731
            handles += [block.attn.attn_drop.register_forward_hook(keep)]
            handles += [block.register_forward_hook(lambda _, args, out: self.blocks.append(out))]
        self.logits = model(self.images)
        for handle in handles:
            handle.remove()
        self.score = self.logits[range(2), TARGET].sum()

    def row(self, matrix):
        return matrix[:, self.reads].mean(dim=1)[:, self.ahead :]

    def weighted(self):
        slopes = torch.autograd.grad(self.score, self.weights, retain_graph=True)
        return [(a * s).relu().mean(dim=1) for a, s in zip(self.weights, slopes, strict=True)]

    def product(self, matrices, normalise):
        one = torch.eye(matrices[0].shape[-1])
        whole = one
        for matrix in matrices:
            step = matrix + one
            whole = (step / step.sum(dim=-1, keepdim=True) if normalise else step) @ whole
        return self.row(whole)

    def attention(self):
        return self.row(self.weights[-1].mean(dim=1))

    def value_attention(self):
        attention = self.model.blocks[-1].attn
        x = self.model.blocks[-1].norm1(self.entered[0])
        v = attention.qkv(x).chunk(3, dim=-1)[2] if attention.qkv is not None else attention.v_proj(x)
        found = 0
        heads = attention.num_heads
        for head, own in enumerate(v.chunk(heads, dim=-1)):
            weight = attention.proj.weight.chunk(heads, dim=1)[head]
            found = found + self.weights[-1][:, head] * (own @ weight.T).norm(dim=-1)[:, None] / heads
        return self.row(found)

    def rollout(self):
        return self.product([a.mean(dim=1) for a in self.weights], True)

    def gradient_rollout(self):
        return self.product(self.weighted(), True)

    def chefer(self):
        return self.product(self.weighted(), False)

    def legrad(self):
        total = 0
        for weights, tokens in zip(self.weights, self.blocks, strict=True):
            tokens = self.model.norm.forward(tokens)
            logits = self.model.head(tokens[:, self.reads].mean(dim=1))
            score = logits[range(2), TARGET].sum()
            (slope,) = torch.autograd.grad(score, weights, retain_graph=True)
            total = total + slope.relu().mean(dim=(1, 2))[:, self.ahead :]
        return total / len(self.weights)

    def gradcam(self):
        x = self.entered[0]
        (slope,) = torch.autograd.grad(self.score, x, retain_graph=True)
        patches = slice(self.ahead, None)
        return torch.einsum("bnd,bd->bn", x[:, patches], slope[:, patches].mean(dim=1)).relu()

    def input_gradient(self):
        (slope,) = torch.autograd.grad(self.score, self.images, retain_graph=True)
        return slope.abs().unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(1, 4, 5)).flatten(1)

    def perturbation(self):
        whole = self.logits[range(2), TARGET]
        drops = []
        for row in range(0, SIZE, 8):
            for column in range(0, SIZE, 8):
                without = self.images.detach().clone()
                without[:, :, row : row + 8, column : column + 8] = 0
                drops.append(whole - self.model(without)[range(2), TARGET])
        return torch.stack(drops, dim=1)


@pytest.mark.parametrize("count", [None, 0, 1, 4], ids=lambda n: f"R{n}")
@pytest.mark.parametrize("kind", MODELS)
def test_values_are_those_of_the_eager_model(kind, count, images):
    model = scramble(MODELS[kind]().eval())
    fused, eager = ttr.adapt(model), ttr.adapt(copy.deepcopy(model))
    wraps = []
    if count is not None:
        wraps = [ttr.TestTimeRegisters(each, SOME, num_registers=count).install() for each in (fused, eager)]
    reference = Eager(eager, images, count or 0)
    for method in (*METHODS, *WITH_TARGET):
        target = {"target": TARGET} if method in WITH_TARGET else {}
        found = ttr.attribute(fused, images, method=method, **target)
        expected = getattr(reference, method.replace("-", "_"))()
        assert found.shape == (2, 4, 4)
        assert found.dtype == torch.float32
        assert expected.std() > 0, method
        torch.testing.assert_close(found.flatten(1), expected.detach(), atol=1e-5, rtol=1e-5, msg=method)
    for wrap in wraps:
        wrap.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_or_says_why_not(family, images):
    """A refusal is a sentence, and a batch gives what its images give one by one."""
    backbone = ttr.adapt(scramble(FAMILIES[family]().eval()))
    size = backbone.image_size
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    head = nn.Linear(backbone.embed(images).shape[1], 3)
    refused = []
    for method in (*METHODS, *WITH_TARGET[:-1]):
        target = {"target": 1, "head": head} if method in WITH_TARGET else {}
        try:
            found = ttr.attribute(backbone, images, method=method, **target)
        except ModelError:
            refused.append(method)
            continue
        assert found.shape == (2, *backbone.layout.grid)
        assert found.isfinite().all()
        assert found.std() > 0, method
        alone = torch.cat([ttr.attribute(backbone, x[None], method=method, **target) for x in images])
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)
    assert not {"gradcam", "input-gradient"} & set(refused)
    assert set(refused) == REFUSED.get(family, set())


def test_a_text_is_the_cosine_to_its_embedding(images):
    clip = scramble(tiny_clip().eval())
    tokens = torch.tensor([[1, 7, 9, 99, 0, 0, 0, 0]])
    found = ttr.attribute(
        ttr.adapt(clip), images, method="input-gradient", target="a nodule", tokenizer=lambda texts: tokens
    )
    given = images.clone().requires_grad_()
    text = nn.functional.normalize(clip.encode_text(tokens), dim=-1)[0].detach()
    (slope,) = torch.autograd.grad(
        (nn.functional.normalize(clip.encode_image(given), dim=-1) @ text).sum(), given
    )
    expected = slope.abs().unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(1, 4, 5))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_the_highest_class_is_settled_once(images):
    """LeGrad and perturbation look at other features than the answer's: their class stays the answer's."""
    model = scramble(tiny_vit(num_classes=5).eval())
    backbone = ttr.adapt(model)
    highest = model(images).argmax(dim=1)
    head = LinearHead(model.head.weight.detach().clone(), model.head.bias.detach().clone())
    for method in ("legrad", "perturbation", "chefer"):
        named = ttr.attribute(backbone, images, method=method, target=highest, head=head)
        torch.testing.assert_close(ttr.attribute(backbone, images, method=method), named)


def test_the_model_is_left_as_it_was(images):
    model = scramble(tiny_vit(num_classes=5).train())
    backbone = ttr.adapt(model)
    model.blocks[0].eval()
    for parameter in model.blocks[1].parameters():
        parameter.requires_grad_(False)

    def state():
        hooks = [len(x._forward_hooks) + len(x._forward_pre_hooks) for x in model.modules()]
        training = [x.training for x in model.modules()]
        return hooks, training, [(x.requires_grad, x.grad) for x in model.parameters()]

    before = state()
    with torch.inference_mode():
        inside = ttr.attribute(backbone, images, method="legrad", target=1)
    with torch.no_grad():
        torch.testing.assert_close(ttr.attribute(backbone, images, method="legrad", target=1), inside)
    with pytest.raises(OptionError, match="5 classes"):
        ttr.attribute(backbone, images, method="chefer", target=5)
    assert state() == before
    assert not images.requires_grad


def test_what_cannot_be_answered_is_refused(images):
    backbone = ttr.adapt(tiny_vit())
    for asked, error, words in (
        ({"method": "lime"}, OptionError, "needed one of attention"),
        ({"method": "chefer"}, ModelError, "no linear classifier"),
        ({"method": "rollout", "target": 1}, OptionError, "knows no target"),
        ({"method": "attention", "attention_head": 2}, OptionError, r"0\.\.1"),
        ({"method": "attention", "query": (4, 0)}, OptionError, "4x4 grid"),
        ({"method": "chefer", "target": 0, "head": nn.Linear(WIDTH + 1, 2)}, ModelError, "features of size"),
        ({"method": "chefer", "target": "a nodule"}, ModelError, "no text tower"),
    ):
        with pytest.raises(error, match=words):
            ttr.attribute(backbone, images, **asked)


def test_a_block_a_head_and_a_query_are_those_that_were_asked_for(images):
    model = scramble(tiny_vit(num_classes=5).eval())
    reference = Eager(ttr.adapt(copy.deepcopy(model)), images, 0)
    found = ttr.attribute(
        ttr.adapt(model), images, method="attention", block=1, attention_head=1, query=(2, 3)
    )
    expected = reference.weights[1][:, 1, 1 + 2 * 4 + 3, 1:].detach()
    torch.testing.assert_close(found.flatten(1), expected, atol=1e-6, rtol=1e-5)
